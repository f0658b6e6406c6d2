"""Which datagrams of this machine's users are answered: the screen of UNIX datagram sockets.

Nothing is forged here: the kernel says which user has sent a datagram, and a name is its sender's own. But our own answers may come back to
us, under our own name, and a user could keep us busy: each has a rate, as a source of UDP has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from echosvc.admission.rate import FREE, Allowance, Everyone, Rate, Verdict, refused_for
from echosvc.admission.recent import Recent
from echosvc.admission.sources import key_of_user
from echosvc.transports import Envelopes, LocalEnvelope, Refusal, Source

__all__ = ["SOURCE_NAME_OWN", "UserScreen"]

SOURCE_NAME_OWN = "source-name-own"
"""It was sent from a socket that we listen on ourselves: an answer of ours has come back."""

#: Users in a generation of those that are remembered. Each has 65 536 more in user namespaces of its own (subuid(5)).
_REMEMBERED = 8192

_OWN = refused_for(SOURCE_NAME_OWN)


class UserScreen:
    """Decides about batches of UNIX datagrams; a `echosvc.transports.Screen`. Made by `Screens`.

    Args:
        own_names: Names of the sockets that the service listens on.
        rate: What each user may have; None for any number.
        everyone: What all may have; None for any number.
    """

    def __init__(self, own_names: Iterable[Source], *, rate: Rate | None, everyone: Everyone | None) -> None:
        self._rate = rate
        self._everyone = everyone
        self._users: Recent[int | None, Verdict] = Recent(_REMEMBERED)
        self.use_own(own_names)

    def use_own(self, names: Iterable[Source]) -> None:
        """Know other names as our own from now on."""
        self._own = frozenset(names)

    def __call__(self, messages: Envelopes) -> Mapping[int, Refusal]:
        """Decide about a batch.

        Returns:
            The position of each message that is refused, and why.
        """
        refused: dict[int, Refusal] = {}
        for position, envelope in enumerate(messages.envelopes()):
            user, name = cast("LocalEnvelope", envelope)
            verdict = _OWN if name in self._own else self._users.find(user) or self._meet(user)
            if verdict.left >= 1:
                verdict.left -= 1
            elif refusal := verdict.ask(1):
                refused[position] = refusal
        return refused

    def _meet(self, user: int | None) -> Verdict:
        if self._rate is None and self._everyone is None:
            return FREE
        verdict = Allowance(key_of_user(user), self._rate, self._everyone)
        self._users.add(user, verdict)
        return verdict
