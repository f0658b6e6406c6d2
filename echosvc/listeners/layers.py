"""What goes between the bytes of a stream and its protocol: a PROXY header, TLS."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocolFactory

from echosvc.listeners.settings import ListenerSettings
from echosvc.transports.proxy import ProxyFactory, trusting

if TYPE_CHECKING:
    from echosvc.listeners.certificates import Certificates

__all__ = ["Layers"]


class Layers:
    """The layers of one listener.

    Args:
        settings: What describes the listener.
        name: What its protocol is called, for whoever agrees on one by ALPN.

    Attributes:
        refused: How many connections were refused by a layer, by reason.
        trusts: Tells of a peer whether it may speak for others, by a PROXY header; None if each speaks for itself.

    Raises:
        InvalidTLS: Certificates or keys cannot be used; the message says why.
    """

    def __init__(self, settings: ListenerSettings, name: str) -> None:
        self.refused: Counter[str] = Counter()
        self._proxy = settings.proxy
        self.trusts = None if settings.proxy is None else trusting(settings.proxy)
        self._certificates = _certificates(settings, name)

    def __str__(self) -> str:
        """Name the layers, as they are added to a log line, in the order of the bytes: ``, TLS``."""
        tls = ", TLS" if self._certificates else ""
        if self._proxy is None:
            return tls
        return f", PROXY from {', '.join(map(str, self._proxy)) or 'a UNIX socket'}{tls}"

    def around(self, factory: IProtocolFactory, clock: Any) -> IProtocolFactory:
        """Put the layers around a factory.

        Args:
            factory: Builds the protocols that the bytes are for.
            clock: Keeps the deadlines of handshakes and headers.

        Returns:
            Builds what the port serves.
        """
        if self._certificates is not None:
            from echosvc.transports.tls import TLSFactory  # noqa: PLC0415  # see _certificates
            from echosvc.transports.tls_handshake import HandshakeSettings  # noqa: PLC0415  # likewise

            required = [name.encode() for name in self._certificates.alpn if self._certificates.alpn_required]
            handshakes = HandshakeSettings(
                context=self._certificates.context,
                context_for=self._certificates.context_for,
                required=required,
            )
            factory = TLSFactory(factory, handshakes, clock, refused=self.refused)
        if self._proxy is not None:
            factory = ProxyFactory(factory, self._proxy, clock, refused=self.refused)
        return factory

    def reload(self) -> None:
        """Read certificates and keys again.

        Raises:
            ValueError: One cannot be used; those that were read before are still used.
        """
        if self._certificates is not None:
            self._certificates.reload()

    def warnings(self) -> list[str]:
        """Say what is not as it should be: a certificate that has expired, for example."""
        return [] if self._certificates is None else self._certificates.warnings()

    def expires(self) -> dict[str, float]:
        """Return when the first certificate or CRL of each kind expires; see `Certificates.expires`."""
        return {} if self._certificates is None else self._certificates.expires()


def _certificates(settings: ListenerSettings, name: str) -> Certificates | None:
    if settings.tls is None:
        return None
    # Not before it is needed: it takes 0.1 s and 9 MB, which a service without TLS does without.
    from echosvc.listeners.certificates import Certificates  # noqa: PLC0415

    return Certificates(settings.tls, (name,))
