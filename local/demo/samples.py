"""Small files of each kind, made here: enough of each for whoever looks at its first bytes, and no more."""

import struct
import zlib


def picture() -> bytes:
    """A PNG of 16 by 16 green points."""
    side = 16
    rows = (b"\0" + b"\x25\xd3\x66" * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def sticker() -> bytes:
    """A WebP of one point."""
    frame = bytes.fromhex("2f00000000078850fdff81888888fe07")
    body = b"WEBPVP8L" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def film() -> bytes:
    """The beginning of an MP4."""
    return b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\0\x08mdat"


def voice(seconds: int) -> bytes:
    """The first and the last page of an Ogg Opus file that plays as long."""
    head = b"OpusHead" + bytes((1, 1)) + struct.pack("<HIhB", 312, 48_000, 0, 0)
    return _page(2, 0, head) + _page(4, 312 + seconds * 48_000, b"sound")


def document() -> bytes:
    """The beginning of a PDF."""
    return b"%PDF-1.4\n% ZapHub\n%%EOF\n"


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _page(flags: int, position: int, body: bytes) -> bytes:
    header = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, position, 1, 0, 0, 1)
    return header + bytes((len(body),)) + body
