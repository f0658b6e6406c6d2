"""Find where what came back differs from what was sent, at the speed of memcmp.

Nothing here looks at single bytes in Python, and nothing copies what matches: `bytes.startswith` takes a
window into any buffer and compares it in C. (Comparing two memoryviews is 65 times slower: it unpacks
every element, 49 us against 0.75 us for 64 KiB.)
"""

from __future__ import annotations

__all__ = ["common_prefix"]


def common_prefix(expected: bytes, start: int, received: memoryview) -> int:
    """Count how many received bytes are as expected before the first wrong one.

    Args:
        expected: What was sent.
        start: Where in it the comparison starts.
        received: What came back; not longer than what is expected from `start` on.

    Returns:
        ``len(received)`` if everything is right, else the position of the first wrong byte.
    """
    if expected.startswith(received, start):
        return len(received)
    # The first wrong byte is in [right, wrong): halve it, which looks at every byte at most twice.
    right, wrong = 0, len(received)
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if expected.startswith(received[right:middle], start + right):
            right = middle
        else:
            wrong = middle
    return right
