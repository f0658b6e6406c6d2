"""Settings as text, for a process that is to have the same: what is unpacked is equal to what was packed."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Network, ip_network
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn
from cattrs.strategies import configure_tagged_union

from echosvc.listeners import ListenerSettings
from echosvc.listeners.settings import Network, Place
from echosvc.protocols import find
from echosvc.settings import Settings
from echosvc.settings.structure import structure, unstructure

__all__ = ["pack", "unpack"]


def pack(settings: Settings) -> str:
    """Write settings as JSON."""
    return json.dumps(_converter.unstructure(settings))


def unpack(text: str) -> Settings:
    """Read what `pack` has written.

    Raises:
        ValueError: A protocol is not known here.
        Mistakes: Its options are not the same here.
    """
    settings: Settings = _converter.structure(json.loads(text), Settings)
    return settings


def _is_plain(kind: Any) -> bool:
    """Whether JSON has a value of each of these kinds, and tells them apart."""
    return get_origin(kind) in (Union, UnionType) and all(
        each in (int, float, str, bool, NoneType) or _is_literal(each) for each in get_args(kind)
    )


def _is_literal(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is Literal


def _as_it_is(value: Any, _: Any) -> Any:
    return value


def _network(value: Any, _: Any) -> Any:
    return ip_network(value)


def _pack_listener(listener: ListenerSettings) -> dict[str, Any]:
    options = listener.options
    packed: dict[str, Any] = _listener_to_dict(attrs.evolve(listener, options=None))
    packed["options"] = None if options is None else unstructure(options)
    return packed


def _unpack_listener(value: Any, _: Any) -> ListenerSettings:
    options = value["options"]
    listener: ListenerSettings = _listener_from_dict({**value, "options": None}, ListenerSettings)
    if options is None:
        return listener
    kind = find(listener.protocol).options
    assert kind is not None  # noqa: S101  # whoever has packed it had the same protocol
    return attrs.evolve(listener, options=structure(options, kind))


_converter = Converter(detailed_validation=False)
_converter.register_structure_hook_func(_is_plain, _as_it_is)
_converter.register_structure_hook_func(lambda kind: kind == Network, _network)
for _kind in (IPv4Network, IPv6Network):
    _converter.register_unstructure_hook(_kind, str)
_converter.register_unstructure_hook_func(lambda kind: kind == Network, str)
configure_tagged_union(Place, _converter)
_listener_to_dict: Any = make_dict_unstructure_fn(ListenerSettings, _converter)
_listener_from_dict: Any = make_dict_structure_fn(ListenerSettings, _converter)
_converter.register_unstructure_hook(ListenerSettings, _pack_listener)
_converter.register_structure_hook(ListenerSettings, _unpack_listener)
