"""Sockperf, an example protocol for echosvc: answers sockperf's messages, so that it measures us."""

from __future__ import annotations

from echosvc.protocols import WireProtocol
from echosvc_sockperf.datagram import DatagramResponder
from echosvc_sockperf.stream import Responder, ResponderFactory

__all__ = ["SOCKPERF", "DatagramResponder", "Responder", "ResponderFactory"]

SOCKPERF = WireProtocol(
    name="sockperf",
    rfc="none",
    summary="answers sockperf, so that it measures us",
    stream=ResponderFactory,
    datagram=DatagramResponder,
)
"""What the entry point names."""
