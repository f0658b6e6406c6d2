"""Opens the admin listener, and imports what it needs only then: nobody else waits for HTTP and metrics to be loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from echosvc.errors import InvalidListener
from echosvc.listeners import ListenerSettings
from echosvc.listeners.sockets import open_all

if TYPE_CHECKING:
    from echosvc.admin.listener import AdminListener

__all__ = ["open_admin"]


def open_admin(settings: ListenerSettings) -> AdminListener:
    """Bind what the admin listener listens on; nothing is answered until it is started.

    Args:
        settings: Where, and who asks for it (`echosvc.settings.admin.admin_settings`).

    Raises:
        InvalidListener: What it needs is not installed.
        ListenError: It cannot be opened. Nothing is left open.
    """
    try:
        from echosvc.admin.listener import AdminListener  # noqa: PLC0415  # needs an extra
    except ImportError as problem:
        raise InvalidListener(
            settings.origin, f"needs {problem.name}, which is not installed: pip install prometheus-client"
        ) from problem
    (opened,) = open_all([settings])
    return AdminListener(opened)
