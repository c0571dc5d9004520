"""The C library's allocator, told to give large blocks back to the system."""

import ctypes

LARGE_BLOCK = 2**20
# As in malloc.h.
M_MMAP_THRESHOLD = -3


def give_back_freed_memory() -> None:
    """From now on each block of `LARGE_BLOCK` bytes or more is the system's again once it is freed.

    glibc does so at first, but raises its threshold to the size of what was freed, up to 32 MiB: partitions would then
    lie in the heap of the thread that read them, batches of edges in those of all threads that prepare them, and the
    gaps between them, half as much again, stay resident. The setting is the whole process's. Other C libraries have no
    such call and need none.
    """
    library = ctypes.CDLL(None)
    try:
        set_option, trim = library.mallopt, library.malloc_trim
    except AttributeError:
        return
    set_option(M_MMAP_THRESHOLD, LARGE_BLOCK)
    trim(0)
