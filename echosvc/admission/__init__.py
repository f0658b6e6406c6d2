"""Who may come in: the gate that every connection passes, the screen that every datagram passes, and how fast."""

from echosvc.admission.access import AccessList, read_networks
from echosvc.admission.descriptors import DEFAULT_MAX_CONNECTIONS, provide_for
from echosvc.admission.gate import Door, Gate
from echosvc.admission.quota import Limits
from echosvc.admission.screen import DatagramScreen, Screens, ScreenSettings
from echosvc.admission.settings import DoorSettings, GateSettings
from echosvc.admission.sources import Sources

__all__ = [
    "DEFAULT_MAX_CONNECTIONS",
    "AccessList",
    "DatagramScreen",
    "Door",
    "DoorSettings",
    "Gate",
    "GateSettings",
    "Limits",
    "ScreenSettings",
    "Screens",
    "Sources",
    "provide_for",
    "read_networks",
]
