"""What is said about admission, wherever it was said."""

from __future__ import annotations

import attrs

from echosvc.admission.quota import Limits

__all__ = ["DoorSettings", "GateSettings"]


@attrs.frozen(kw_only=True)
class DoorSettings:
    """Who may come in at one listener, and how long connections may stay.

    Attributes:
        allow: Networks that may connect, as a user writes them: see `read_networks`.
        deny: Networks that may not.
        limits: How many may connect here, besides what holds for the whole service.
        idle_timeout: Seconds without a byte in either direction after which a connection is ended; 0 for never. An hour:
            those who test how long a NAT keeps a quiet connection are rarely as patient, and where places are rare, whoever
            is idle makes room long before.
        lifetime: Seconds after which a connection is ended in any case; 0 for never.
        byte_rate: Bytes in a second that are read of each connection; 0 for any number.
        byte_rate_total: Bytes in a second that are read of all connections here together; 0 for any number.
        user_limits: Whether limits of a source hold for each user on UNIX sockets. False where a local proxy brings all clients under one
            user.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    limits: Limits = attrs.field(factory=Limits)
    idle_timeout: float = 3600.0
    lifetime: float = 0.0
    byte_rate: float = 0.0
    byte_rate_total: float = 0.0
    user_limits: bool = True

    @property
    def has_files(self) -> bool:
        """Whether networks are read from files, which may change."""
        return any(each.startswith("@") for each in (*self.allow, *self.deny))


@attrs.frozen(kw_only=True)
class GateSettings:
    """What holds for all listeners of a service together.

    Attributes:
        limits: How many connections there may be; where no number is given, 65 536, or as many as the system allows.
        max_queued: Bytes that process and kernel may hold for all connections, as `echosvc.admission.memory` counts them.
        ipv4_prefix: Bits of an IPv4 address that make a source.
        ipv6_prefix: Bits of an IPv6 address that make a source.
    """

    limits: Limits = attrs.field(factory=Limits)
    max_queued: int = 64 * 1024 * 1024
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
