"""Several processes that serve the same sockets, and one that keeps them (`echosvc.workers.service`)."""
