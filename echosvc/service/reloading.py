"""Reloading: what has to be done so that a running service is what other settings say.

A socket that is in both is never closed, so that nothing that waits in it is lost: what listens there with other settings is a
new listener on the same socket. Everything that can fail is done first, and then undone if something does: a reload is whole,
or it is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import attrs

from echosvc.listeners import (
    AnyListener,
    Inherited,
    Listener,
    ListenerSettings,
    check_listeners,
    open_listeners,
    succeed,
)

__all__ = ["Change", "Plan", "plan", "prepare"]


@attrs.frozen
class Plan:
    """How listeners differ from what settings say.

    Attributes:
        unchanged: What stays as it is.
        changed: What listens on with other settings, which are these.
        removed: What is no longer asked for.
        added: What is asked for and not there.
    """

    unchanged: list[AnyListener] = attrs.field(factory=list)
    changed: list[tuple[AnyListener, ListenerSettings]] = attrs.field(factory=list)
    removed: list[AnyListener] = attrs.field(factory=list)
    added: list[ListenerSettings] = attrs.field(factory=list)


def plan(listeners: Sequence[AnyListener], settings: Sequence[ListenerSettings]) -> Plan:
    """Compare. What is the same is found by its place: the address and port, the file, the inherited socket.

    Args:
        listeners: What listens now.
        settings: What is to listen.
    """
    found = Plan()
    left = list(listeners)
    for each in settings:
        there = [listener for listener in left if listener.settings.place == each.place]
        if not there:
            found.added.append(each)
        # Only one who asks for inherited sockets may have got several.
        for listener in there if isinstance(each.place, Inherited) else there[:1]:
            left.remove(listener)
            if _same(listener.settings, each):
                found.unchanged.append(listener)
            else:
                found.changed.append((listener, each))
    found.removed.extend(left)
    return found


def _same(one: ListenerSettings, other: ListenerSettings) -> bool:
    """Whether two settings mean the same, whoever has said so."""
    return attrs.evolve(one, origin="", interface_origin="") == attrs.evolve(
        other, origin="", interface_origin=""
    )


@attrs.frozen
class Change:
    """What is ready to be served in the place of what is.

    Attributes:
        plan: What it follows.
        successors: Those who serve now, and who serve the same sockets next.
        opened: New ones.
    """

    plan: Plan
    successors: list[tuple[Listener, Listener]]
    opened: list[AnyListener]

    def undo(self) -> None:
        """Close what was opened, and serve on as before."""
        for _, successor in self.successors:
            successor.retire()
        for listener in self.opened:
            listener.stop()


def prepare(found: Plan, settings: Sequence[ListenerSettings], reactor: Any) -> Change:
    """Do everything that can fail.

    Args:
        found: What is to be done.
        settings: All that is to listen.
        reactor: As in `open_listeners`.

    Raises:
        InvalidListener: Something cannot be. Nothing was changed.
        ListenError: Something could not be opened, perhaps because privileges are gone by now. Nothing was changed.
    """
    if mistakes := check_listeners(settings):
        raise mistakes[0]
    with contextlib.ExitStack() as undo:
        successors: list[tuple[Any, Listener]] = []
        for listener, each in found.changed:
            successor = succeed(listener, each)
            undo.callback(successor.retire)
            successors.append((listener, successor))
        opened = open_listeners(found.added, reactor)
        undo.pop_all()
    return Change(found, successors, opened)
