"""Asking listeners, all at once, and no longer than for a given time: plain sockets, each waited for by a thread.

Not by the reactor: what a health check says must not hang on what it checks.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Sequence
from threading import Thread
from typing import Any

import attrs

from echosvc.cli._questions import Question

__all__ = ["Answer", "Place", "TLSAsked", "ask_all"]

#: How often a datagram is sent in the time that there is: one may be lost, or be one too many for the listener's limits.
_TRIES = 4

#: Seconds for which silence is listened to, and the part of the whole time that this is at most: a refusal on the same machine
#: comes in a fraction of a millisecond.
_SILENCE, _SILENCE_PART = 0.2, 1 / 4

#: There is no such address, or family of addresses, on this machine.
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH)


@attrs.frozen(kw_only=True)
class TLSAsked:
    """How TLS is spoken.

    Attributes:
        host: Whose certificate must be shown, issued by somebody whom this system trusts; None for anybody's.
        may_refuse: A refusal will do: the listener wants a certificate of ours, and we have none.
    """

    host: str | None = None
    may_refuse: bool = False


@attrs.frozen(kw_only=True)
class Place:
    """Where something is asked.

    Attributes:
        label: How results name it.
        family: Of the socket.
        address: As the socket module has it.
        question: What is asked.
        is_stream: Over a connection; else with datagrams.
        tls: Over TLS.
        header: What is said before everything else: a PROXY header.
        may_be_missing: It will do if this machine has no such address.
    """

    label: str
    family: socket.AddressFamily
    address: Any
    question: Question
    is_stream: bool
    tls: TLSAsked | None = None
    header: bytes = b""
    may_be_missing: bool = False


@attrs.define
class Answer:
    """How asking came out.

    Attributes:
        place: Where.
        problem: What is wrong; empty if nothing is.
        seconds: After how long that was clear; None if the machine has no such address.
    """

    place: Place
    problem: str
    seconds: float | None = 0.0


def ask_all(places: Sequence[Place], timeout: float) -> list[Answer]:
    """Ask everywhere at once.

    Args:
        places: Where, and what.
        timeout: Seconds in which all must have answered.

    Returns:
        The answers, in the order of `places`, after `timeout` at the latest.
    """
    began = time.monotonic()
    answers = [Answer(each, f"no answer within {timeout:g} s", timeout) for each in places]
    askers = [_Asker(each, began, timeout) for each in answers]
    threads = [Thread(target=each.ask, daemon=True) for each in askers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(began + timeout - time.monotonic(), 0))
    return [attrs.evolve(each) for each in answers]  # who is late changes nothing any more


class _Asker:
    """Asks at one place.

    Args:
        answer: Where the answer goes.
        began: When everything began.
        timeout: Seconds from then on.
    """

    def __init__(self, answer: Answer, began: float, timeout: float) -> None:
        self._answer = answer
        self._place = answer.place
        self._began = began
        self._timeout = timeout

    def ask(self) -> None:
        """Ask, and write down the answer."""
        problem = ""
        try:
            problem = self._ask()
        except TimeoutError:
            return  # as it is written down already
        except ssl.SSLError as error:
            problem = self._tls_problem(error)
        except OSError as error:
            if error.errno in _NO_SUCH_ADDRESS and self._place.may_be_missing:
                self._answer.seconds, self._answer.problem = None, ""
                return
            reset = isinstance(error, ConnectionResetError | BrokenPipeError)
            if not (reset and self._place.question.may_be_reset):
                problem = (error.strerror or str(error)).lower()
        self._answer.seconds, self._answer.problem = time.monotonic() - self._began, problem

    def _tls_problem(self, error: ssl.SSLError) -> str:
        reason = error.reason or str(error)
        if self._place.tls is not None and self._place.tls.may_refuse and "ALERT" in reason:
            return ""
        return f"TLS: {getattr(error, 'verify_message', '') or reason.replace('_', ' ').lower()}"

    def _ask(self) -> str:
        place = self._place
        kind = socket.SOCK_STREAM if place.is_stream else socket.SOCK_DGRAM
        with socket.socket(place.family, kind) as sock:
            self._wait_at_most(sock, self._timeout)
            if not place.is_stream:
                return self._ask_with_datagrams(sock)
            sock.connect(place.address)
            sock.sendall(place.header)
            if place.tls is None:
                return self._ask_over(sock)
            with _context(place.tls).wrap_socket(sock, server_hostname=place.tls.host) as secure:
                return self._ask_over(secure)

    def _ask_over(self, sock: socket.socket) -> str:
        question = self._place.question
        came, ended = b"", False
        sock.sendall(question.says)
        if question.ends and isinstance(sock, ssl.SSLSocket):
            sock.unwrap()  # waits for the peer to end its direction, too, and fails if it says something before
            ended = True
        elif question.ends:
            sock.shutdown(socket.SHUT_WR)
        right = question.judge(came, ended)
        while right is None:
            self._wait_at_most(sock, self._timeout)
            data = sock.recv(4096)
            came, ended = came + data, not data
            right = question.judge(came, ended)
        if right:
            return ""
        return _wrong(came) if came else "it ends the connection without an answer"

    def _ask_with_datagrams(self, sock: socket.socket) -> str:
        question = self._place.question
        if self._place.family == socket.AF_UNIX:
            sock.bind("")  # an address for the answer: Linux chooses an abstract one (unix(7), autobind)
        sock.connect(self._place.address)
        wait = self._timeout / _TRIES
        if question.silent:
            wait = min(_SILENCE, self._timeout * _SILENCE_PART)
        while True:
            sock.send(question.says)
            self._wait_at_most(sock, wait)
            try:
                came = sock.recv(65535)
            except TimeoutError:
                if question.silent:
                    return ""
            else:
                return "" if question.judge(came, True) else _wrong(came)

    def _wait_at_most(self, sock: socket.socket, seconds: float) -> None:
        """Have the next call wait so long at most, and not longer than there is time.

        Raises:
            TimeoutError: There is none left.
        """
        left = self._began + self._timeout - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(min(left, seconds))


def _context(asked: TLSAsked) -> ssl.SSLContext:
    if asked.host is not None:
        return ssl.create_default_context()
    context = ssl.SSLContext(
        ssl.PROTOCOL_TLS_CLIENT
    )  # without the system's authorities, which take 15 ms to read
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _wrong(came: bytes) -> str:
    return f"it answers something else: {came[:16]!r}{'…' * (len(came) > 16)}"
