"""Settings as a TOML file that would make them, with every default written out."""

from __future__ import annotations

from typing import Any

import tomli_w

from echosvc.listeners import ListenerSettings, format_endpoint
from echosvc.protocols import find
from echosvc.settings.model import Settings
from echosvc.settings.structure import unstructure

__all__ = ["show"]


def show(settings: Settings) -> str:
    """Write settings as TOML.

    Args:
        settings: Checked ones.

    Returns:
        A configuration file that means the same.
    """
    return tomli_w.dumps({"listener": [_table(each) for each in settings.listeners]})


def _table(listener: ListenerSettings) -> dict[str, Any]:
    wire = find(listener.protocol)
    options = listener.options
    if options is None and wire.options is not None:
        options = wire.options()
    tls = listener.tls and {
        "cert": listener.tls.cert,
        "key": listener.tls.key,
        "certdir": listener.tls.cert_dir,
        "client-ca": listener.tls.client_ca,
        "alpn": listener.tls.alpn or None,  # the protocol's own name, if written out, would be insisted on
    }
    table: dict[str, Any] = unstructure(
        {
            "protocol": listener.protocol,
            "name": listener.name,
            "endpoint": format_endpoint(listener.place),
            "backlog": listener.backlog,
            "rcvbuf": listener.receive_buffer,
            "stall-timeout": listener.stall_timeout,
            "answer-rate": listener.answer_rate,
            "proxy": None if listener.proxy is None else [str(each) for each in listener.proxy],
            "tls": tls,
            "options": options,
        }
    )
    return table
