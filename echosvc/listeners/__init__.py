"""From a description to something that listens."""

from echosvc.listeners.grammar import Endpoint, format_endpoint, parse_endpoint
from echosvc.listeners.listener import Listener
from echosvc.listeners.opening import AnyListener, adopt_listeners, check_listeners, open_listeners, succeed
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
    "Listener",
    "ListenerSettings",
    "TLSSettings",
    "UnixSocket",
    "adopt_listeners",
    "check_listeners",
    "format_endpoint",
    "open_listeners",
    "parse_endpoint",
    "succeed",
]
