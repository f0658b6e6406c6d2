"""A prompt, a line, its echo: the conversation at a terminal, whatever carries the lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from echosvc.cli._input import Lines
from echosvc.cli._output import Output, printable, remark
from echosvc.errors import EchoLost, EchoMismatch, EchosvcError, ExitCode

__all__ = ["Conversation"]

_PROMPT = "> "


class Conversation:
    """Asks a service about one line after the other.

    Echoes go to standard output, everything else (prompt, remarks) to standard error.

    Args:
        lines: What the user types.
        output: Standard output.
        clock: Keeps time.
        patience: Seconds after which the user is told that nothing came back, and may go on.
    """

    def __init__(self, lines: Lines, output: Output, clock: IReactorTime, patience: float) -> None:
        self._lines = lines
        self._output = output
        self._clock = clock
        self._patience = patience
        self._verdict = ExitCode.OK
        self._unanswered = 0
        self._prompting = False  # the cursor stands behind a prompt
        self._talking: Deferred[None] | None = None
        self._ended_by: EchosvcError | None = None

    async def hold(self, ask: Callable[[bytes], Deferred[bytes]]) -> ExitCode:
        """Talk until the user ends it with ``q`` or the end of input.

        Args:
            ask: Sends a line (without line end) and waits for what comes back.

        Returns:
            ``OK`` if everything came back the same, else the code of the last thing that went wrong.

        Raises:
            EchosvcError: The connection is over, or standard input or output failed.
        """
        if self._ended_by is not None:
            raise self._ended_by
        self._talking = Deferred.fromCoroutine(self._talk(ask))
        try:
            await self._talking
        except CancelledError:
            if self._ended_by is None:
                raise
            raise self._ended_by from None
        if self._unanswered and self._verdict is ExitCode.OK:
            return ExitCode.NO_REPLY
        return self._verdict

    def end(self, problem: EchosvcError) -> None:
        """End the conversation from outside, even while the user is being waited for.

        Args:
            problem: Why.
        """
        self._ended_by = self._ended_by or problem
        self._leave_prompt()
        if self._talking is not None:
            self._talking.cancel()

    def unasked(self, data: bytes) -> None:
        """Show what came although nothing was waited for."""
        self._leave_prompt()
        remark(f"unasked: {printable(data)}\n")
        self._prompt()

    async def _talk(self, ask: Callable[[bytes], Deferred[bytes]]) -> None:
        while True:
            self._prompt()
            line = await self._lines.next()
            if line is None:
                self._leave_prompt()
                return
            self._prompting = False  # the user's Enter has moved the cursor on
            if line == b"q":
                return
            await self._exchange(ask(line), line)

    async def _exchange(self, answer: Deferred[bytes], line: bytes) -> None:
        """Wait for the answer, but not for ever: it may still come when the user has gone on."""
        turn: Deferred[None] = Deferred()
        hint = self._clock.callLater(self._patience, self._nothing_yet, turn)
        self._unanswered += 1
        answer.addCallbacks(self._show, self._explain, (line,)).addBoth(self._settled, hint, turn)
        await turn

    def _nothing_yet(self, turn: Deferred[None]) -> None:
        remark(f"nothing came back within {self._patience:g} s\n")
        turn.callback(None)

    def _show(self, answer: bytes, line: bytes) -> None:
        self._leave_prompt()
        if answer == line:
            self._output.write(answer + b"\n")  # as the user typed it
        else:
            self._output.line(printable(answer))
            remark("(this is not what was sent)\n")
            self._verdict = ExitCode.WRONG_BYTES

    def _explain(self, failure: Failure) -> None:
        """Say what went wrong with one line; raise again what ends the conversation."""
        problem = failure.value
        if isinstance(problem, EchosvcError) and not isinstance(problem, (EchoLost, EchoMismatch)):
            self._leave_prompt()
            remark(f"{problem}\n")
            self._verdict = problem.exit_code
        else:
            failure.raiseException()

    def _settled(self, result: Failure | None, hint: IDelayedCall, turn: Deferred[None]) -> None:
        """Give the turn back to the user, or the prompt if the turn has been given back already."""
        if hint.active():
            hint.cancel()
        if result is None:
            self._unanswered -= 1
            if turn.called:
                self._prompt()
            else:
                turn.callback(None)
        elif result.check(CancelledError):
            pass  # the user has gone on to the next line: this one stays unanswered
        elif turn.called:
            self.end(cast("EchosvcError", result.value))
        else:
            turn.errback(result)

    def _prompt(self) -> None:
        remark(_PROMPT)
        self._prompting = True

    def _leave_prompt(self) -> None:
        if self._prompting:
            remark("\n")
        self._prompting = False
