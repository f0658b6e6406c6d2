"""Several processes that serve the same sockets, and one that keeps them."""

from echosvc.workers.service import WorkersService, open_workers

__all__ = ["WorkersService", "open_workers"]
