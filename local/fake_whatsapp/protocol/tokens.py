"""Reads WhatsApp's token dictionaries out of the loaded neonize library, so that no table is kept here.

Go keeps an array of strings as pairs of pointer and length. "xmlstreamstart" is entry 1 of the single-byte
table (236 entries), "read-self" is entry 0 of the four double-byte tables (256 entries each).
"""

import ctypes
import re
import struct
from dataclasses import dataclass
from pathlib import Path

LIBRARY_NAME = "neonize-linux"
SINGLE_TOKENS = 236
DOUBLE_TOKENS = 256
DOUBLE_TABLES = 4
LONGEST_TOKEN_BYTES = 200
STRING_HEADER_BYTES = 16


@dataclass(frozen=True, slots=True)
class Segment:
    """A mapped part of the library; `end` is the first address after it."""

    start: int
    end: int
    is_writable: bool

    def read(self) -> bytes:
        return ctypes.string_at(self.start, self.end - self.start)


@dataclass(frozen=True, slots=True)
class Dictionaries:
    """The words that travel as one byte, and those that travel as a table number and a byte."""

    single: tuple[str, ...]
    double: tuple[tuple[str, ...], ...]


def load() -> Dictionaries:
    """Read the dictionaries of the library in this process; LookupError when this build hides them."""
    segments = library_segments()
    if not segments:
        raise LookupError(f"no {LIBRARY_NAME} library is loaded in this process")
    blobs = [(segment.start, segment.read()) for segment in segments]
    bounds = range(min(s.start for s in segments), max(s.end for s in segments))

    for header in _headers_of(blobs, "xmlstreamstart"):
        single = _table(header - STRING_HEADER_BYTES, SINGLE_TOKENS, bounds)
        if single is not None and single[2] == "xmlstreamend":
            break
    else:
        raise LookupError("the single-byte dictionary was not found in the library")

    for header in _headers_of(blobs, "read-self"):
        size = STRING_HEADER_BYTES * DOUBLE_TOKENS
        tables = [_table(header + size * row, DOUBLE_TOKENS, bounds) for row in range(DOUBLE_TABLES)]
        double = tuple(table for table in tables if table is not None and all(table))
        if len(double) == DOUBLE_TABLES:
            return Dictionaries(single, double)
    raise LookupError("the double-byte dictionaries were not found in the library")


def library_segments() -> list[Segment]:
    """Every readable part of the library that is mapped into this process; Linux only."""
    pattern = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r([w-])")
    segments = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        match = pattern.match(line)
        if match and LIBRARY_NAME in line:
            segments.append(Segment(int(match[1], 16), int(match[2], 16), match[3] == "w"))
    return segments


def _headers_of(blobs: list[tuple[int, bytes]], word: str) -> list[int]:
    """Addresses of the string headers that point at some copy of the word's letters."""
    return [
        header
        for text in _occurrences(blobs, word.encode())
        for header in _occurrences(blobs, struct.pack("<QQ", text, len(word)))
    ]


def _occurrences(blobs: list[tuple[int, bytes]], needle: bytes) -> list[int]:
    found = []
    for start, blob in blobs:
        at = blob.find(needle)
        while at >= 0:
            found.append(start + at)
            at = blob.find(needle, at + 1)
    return found


def _table(address: int, count: int, bounds: range) -> tuple[str, ...] | None:
    """The words of the table at that address, or None when it is something else."""
    if address not in bounds or address + count * STRING_HEADER_BYTES not in bounds:
        return None
    words = []
    for index in range(count):
        header = ctypes.string_at(address + STRING_HEADER_BYTES * index, STRING_HEADER_BYTES)
        pointer, length = struct.unpack("<QQ", header)
        if length > LONGEST_TOKEN_BYTES or (length and pointer not in bounds):
            return None
        try:
            words.append(ctypes.string_at(pointer, length).decode() if length else "")
        except UnicodeDecodeError:
            return None
    return tuple(words)
