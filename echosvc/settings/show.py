"""Settings as a TOML file that would make them, with every default written out."""

from __future__ import annotations

from typing import Any

import tomli_w

from echosvc.admission import Limits
from echosvc.listeners import ListenerSettings, format_endpoint
from echosvc.protocols import find
from echosvc.settings.admin import admin_endpoint
from echosvc.settings.model import Settings
from echosvc.settings.structure import unstructure
from echosvc.settings.values import share_text

__all__ = ["show"]


def show(settings: Settings) -> str:
    """Write settings as TOML.

    Args:
        settings: Checked ones.

    Returns:
        A configuration file that means the same.
    """
    gate = settings.gate
    limits = unstructure(
        {
            **_limits(gate.limits),
            "max-queued": gate.max_queued,
            "ipv4-prefix": gate.ipv4_prefix,
            "ipv6-prefix": gate.ipv6_prefix,
        }
    )
    service = unstructure(
        {
            "grace": settings.grace,
            "workers": settings.workers,
            "log-format": settings.log_format,
            "log-connections": share_text(settings.log_connections),
        }
    )
    admin = {} if settings.admin is None else {"admin": {"endpoint": admin_endpoint(settings.admin)}}
    return tomli_w.dumps(
        {
            "service": service,
            **admin,
            "limits": limits,
            "listener": [_table(each) for each in settings.listeners],
        }
    )


def _limits(limits: Limits) -> dict[str, Any]:
    return {
        "max-connections": limits.max_connections,
        "max-per-source": limits.max_per_source,
        "accept-rate": limits.accept_rate,
        "accept-rate-per-source": limits.accept_rate_per_source,
    }


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
        "min-version": listener.tls.min_version,
        "ciphers": listener.tls.ciphers,
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
            "datagram-rate": listener.screen.rate,
            "datagram-burst": listener.screen.burst,
            "datagram-rate-total": listener.screen.total,
            "low-ports": list(listener.screen.low_ports) or None,
            "allow": list(listener.door.allow) or None,
            "deny": list(listener.door.deny) or None,
            "idle-timeout": listener.door.idle_timeout,
            "lifetime": listener.door.lifetime,
            "byte-rate": listener.door.byte_rate,
            "byte-rate-total": listener.door.byte_rate_total,
            "user-limits": listener.door.user_limits,
            **_limits(listener.door.limits),
            "log-connections": None
            if listener.log_connections is None
            else share_text(listener.log_connections),
            "proxy": None if listener.proxy is None else [str(each) for each in listener.proxy],
            "tls": tls,
            "options": options,
        }
    )
    return table
