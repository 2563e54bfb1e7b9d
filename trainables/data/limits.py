"""Holds the largest sizes that are believed of a file before memory is taken for its content."""

LARGEST_FRAME = 1 << 25  # pixels of one frame; 5792x5792, or a little more than 8K video
LARGEST_INDEX = 1 << 26  # bytes of a file that lists frames or facts, unpacked
