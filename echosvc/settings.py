"""One description of a running service, wherever it came from."""

from __future__ import annotations

import attrs

from echosvc.listeners import ListenerSettings

__all__ = ["Settings"]


@attrs.frozen(kw_only=True)
class Settings:
    """A service.

    Attributes:
        listeners: What to listen on, and how.
    """

    listeners: tuple[ListenerSettings, ...]
