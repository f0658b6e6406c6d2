"""What can keep a figure from being taken."""

from __future__ import annotations

__all__ = ["BenchError", "CannotBuild", "NoFigure"]


class BenchError(Exception):
    """The base of this package's errors; its text is a sentence for the reader of the table."""


class CannotBuild(BenchError):
    """A program could not be compiled. Without a C compiler there is no benchmark, without go one rival less."""


class NoFigure(BenchError):
    """A server did not start, or did not do the work. The run goes on; the table says why a row is empty."""
