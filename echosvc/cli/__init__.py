"""The command `echosvc`: words, tables and exit codes. What they are about is in the rooms below.

Help pages appear at once because nothing of Twisted is imported before a command really runs.
"""

from echosvc.cli._main import main

__all__ = ["main"]
