"""Who may come in: the screen that every datagram passes before a protocol sees it, and how fast."""

from echosvc.admission.rate import limited
from echosvc.admission.screen import make_screen

__all__ = ["limited", "make_screen"]
