"""From a description to something that listens."""

from echosvc.listeners.grammar import Endpoint, format_endpoint, parse_endpoint
from echosvc.listeners.opening import AnyListener, check_listeners, open_listeners
from echosvc.listeners.settings import (
    Foreign,
    Inherited,
    Internet,
    ListenerSettings,
    TLSSettings,
    UnixSocket,
)

__all__ = [
    "AnyListener",
    "Endpoint",
    "Foreign",
    "Inherited",
    "Internet",
    "ListenerSettings",
    "TLSSettings",
    "UnixSocket",
    "check_listeners",
    "format_endpoint",
    "open_listeners",
    "parse_endpoint",
]
