"""echosvc: TCP and UDP echo (RFC 862) as a twistd plugin, with a client that measures.

This module holds the version and nothing else, so that importing it costs nothing. The rooms are
described in ``docs/architecture.md``.
"""

__version__ = "0.1.0"
