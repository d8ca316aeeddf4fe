"""What the C library does with memory that was freed: a server keeps little of it.

The C library keeps what was freed for whoever asks next, in an arena for each of the first threads. After
many namespaces were opened and closed that is several kilobytes for each of them, scattered over all arenas.
Nothing here does anything where the C library is another one than glibc.
"""

from __future__ import annotations

import ctypes

_libc = ctypes.CDLL(None)

ARENAS = 2
_M_ARENA_MAX = -8  # malloc.h


def share_arenas() -> None:
    """Let all threads allocate from ARENAS arenas; to be called before there are threads.

    They hardly ever allocate at the same time, because most of what allocates holds the interpreter.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)


def give_back_memory() -> None:
    """Give back what the C library keeps and can spare. Takes milliseconds; other threads go on."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
