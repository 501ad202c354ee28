"""How the C library keeps freed memory in a process that is a server and nothing else: set so that it goes back.

glibc keeps a heap for every thread that ever allocated, and keeps what was freed in each; with several worker threads
whose largest arrays live for milliseconds, a server would hold a multiple of what it uses.
"""

import ctypes
import sys

# Source: mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Pieces of many uploads are 512 KB; from 1 MB on, what lies between them kept 5 MB more with 8 uploads of 1 GB.
_SETTINGS = {_M_ARENA_MAX: 2, _M_MMAP_THRESHOLD: 1 << 18, _M_TRIM_THRESHOLD: 4 << 20}


def give_back_freed_memory() -> bool:
    """Let this process keep two heaps and little of what is freed; return whether its C library took the settings.

    Other C libraries than glibc are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    taken = [mallopt(name, value) == 1 for name, value in _SETTINGS.items()]
    return all(taken)
