"""From a description to something that listens."""

from echosvc.listeners.listener import Listener, open_listeners
from echosvc.listeners.settings import ListenerSettings

__all__ = ["Listener", "ListenerSettings", "open_listeners"]
