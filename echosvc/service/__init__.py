"""The running service: start, ready, reload, drain, stop."""

from __future__ import annotations

from echosvc.service.echo_service import EchoService, open_service

__all__ = ["EchoService", "open_service"]
