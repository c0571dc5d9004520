"""What a firewall, SELinux or a profile of seccomp does to a program: it may connect to nothing."""

import ctypes
import errno
import platform
import struct

NUMBER_OF_CONNECT = {"x86_64": 42, "aarch64": 203}
# For prctl and the filter, from linux/prctl.h, linux/seccomp.h and linux/bpf_common.h.
NO_NEW_PRIVILEGES, SET_SECCOMP, BY_FILTER = 38, 22, 2
LOAD_WORD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ANSWER_ERROR, ALLOW = 0x00050000, 0x7FFF0000


def forbid_connections() -> None:
    """Have connect() fail with EPERM in this process and those that it starts. For `preexec_fn`."""
    steps = [
        (LOAD_WORD, 0, 0, 0),  # the number of the system call
        (IF_EQUAL, 0, 1, NUMBER_OF_CONNECT[platform.machine()]),
        (RETURN, 0, 0, ANSWER_ERROR | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, BY_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the filter is not taken")
