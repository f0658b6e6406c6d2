"""Who may come in: for now the screen that every datagram passes before a protocol sees it."""

from echosvc.admission.screen import make_screen

__all__ = ["make_screen"]
