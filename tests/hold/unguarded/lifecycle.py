"""What the promises about the life of the service rest on."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import succeed

from echosvc.service import draining, echo_service, preflight, reloading
from echosvc.workers import process, service
from tests.hold.unguarded.registry import guard_of, replace


@guard_of("T29-drain")
def _wait_for_others() -> None:
    """Those who are connected may finish."""
    nothing = draining.Drained(0, 0, 0.0)
    replace(draining.Drain, "start", lambda drain: succeed(nothing))


@guard_of("T29-reload")
def _keep_sockets() -> None:
    """A socket that is asked for before and after is never closed, nor opened anew."""

    def all_anew(listeners: Any, settings: Any) -> reloading.Plan:
        return reloading.Plan(removed=list(listeners), added=list(settings))

    replace(echo_service, "plan", all_anew)


@guard_of("LIFE-planted")
def _look_at_folders() -> None:
    """A folder in which another user can put a link is refused."""
    replace(preflight, "changeable_by_others", lambda path, groups: None)


@guard_of("WORKERS-hidden")
def _forbid_inspection() -> None:
    """The parent says so of itself; a worker does, too, before it is told anything."""
    replace(service, "forbid_inspection", lambda: None)


@guard_of("WORKERS-starved")
def _count_only_time_with_a_turn() -> None:
    """Whether a worker runs is read from the descriptor that it hands over."""
    replace(process, "time_run", lambda stat: lambda: None)
