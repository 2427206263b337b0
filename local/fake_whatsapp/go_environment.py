"""Lets a Go library that loads into this process see an environment variable.

Go does not read the environment that `os.environ` changes: a c-shared library copies the block that the kernel put on
the stack when the process started. So the entry is changed there, and only there; Python and its C libraries go on
with what they had. Linux, 64 bits.
"""

import ctypes
import os
from pathlib import Path

POINTER_BYTES = 8
# In /proc/self/stat, counted from the first field after the program's name.
START_OF_STACK = 25
# Go has no use for these; one of them gives its place when the variable is new.
DISPENSABLE = ("_", "OLDPWD", "SHLVL", "PWD", "LS_COLORS", "TERM", "MAIL", "LOGNAME", "USER", "LANG", "VIRTUAL_ENV")

_kept_alive: list[ctypes.Array[ctypes.c_char]] = []


class NoSuchPlace(RuntimeError):
    """The environment block is not where it should be, or has no entry to give up."""


def show(name: str, value: str) -> None:
    """Make the variable visible to every Go library that loads from now on; raises NoSuchPlace."""
    _move_libc_environment()
    entries = _entries()
    for candidate in (name, *DISPENSABLE):
        if candidate in entries:
            text = ctypes.create_string_buffer(f"{name}={value}".encode())
            _kept_alive.append(text)
            ctypes.c_void_p.from_address(entries[candidate]).value = ctypes.addressof(text)
            return
    raise NoSuchPlace(f"start this process with {name} set to anything: its place in the environment is needed")


def _move_libc_environment() -> None:
    """A new variable makes the C library copy its list of variables to the heap, away from the one on the stack."""
    name = f"MOVED_BY_{os.getpid()}"
    os.putenv(name, "")
    os.unsetenv(name)


def _entries() -> dict[str, int]:
    """Where the pointer to each variable of the initial environment lies: behind argc, argv and a null pointer."""
    stack = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[START_OF_STACK])
    if not stack:
        raise NoSuchPlace("the kernel does not say where the stack starts")
    arguments = ctypes.c_long.from_address(stack).value
    if arguments != len(Path("/proc/self/cmdline").read_bytes().split(b"\0")) - 1:
        raise NoSuchPlace("the start of the stack does not hold the arguments")
    at = stack + POINTER_BYTES * (arguments + 2)
    found = {}
    while pointer := ctypes.c_void_p.from_address(at).value:
        found[ctypes.string_at(pointer).partition(b"=")[0].decode(errors="replace")] = at
        at += POINTER_BYTES
    return found
