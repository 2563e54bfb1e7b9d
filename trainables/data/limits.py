"""Holds the largest sizes that are believed of a file before memory is taken for its content."""

import os

LARGEST_FRAME = 1 << 25  # pixels of one frame; 5792x5792, or a little more than 8K video
LARGEST_INDEX = 1 << 26  # bytes of a file that lists frames or facts, unpacked


def memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
