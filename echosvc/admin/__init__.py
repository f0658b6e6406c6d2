"""The admin listener: metrics, health and status over HTTP, for whoever watches the service and not for its clients."""

from echosvc.admin.opening import open_admin

__all__ = ["open_admin"]
