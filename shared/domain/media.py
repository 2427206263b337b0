"""What media are: their states, their names, and which file a message of a type may carry."""

import re
import unicodedata
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID

from shared.domain.message import MessageType

MediaId = NewType("MediaId", UUID)

_MAX_FILENAME_BYTES: Final = 255
_MAX_ENDING: Final = 16
# Control characters, what file systems and headers give a meaning to, and what turns the direction of writing around.
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]')
_MIMETYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")
# Files that only their program opens, so that a browser may show them where they are: no script, no markup.
_SHOWN_INLINE: Final = re.compile(r"image/(jpeg|png|gif|webp|bmp)|(audio|video)/.*|text/plain")


class MediaState(StrEnum):
    """Where a file that came in is. What users give is born `stored`."""

    PENDING = "pending"  # its message is here, the file is being fetched from WhatsApp
    STORED = "stored"
    FAILED = "failed"  # it could not be fetched, and is not tried again by itself


class MediaOrigin(StrEnum):
    """How a file came to be here."""

    UPLOAD = "upload"
    BASE64 = "base64"
    URL = "url"
    INBOUND = "inbound"


# By the type as it was sniffed, or declared where that only says it more exactly. None: any file.
_FITS: Final[dict[MessageType, tuple[re.Pattern[str], str] | None]] = {
    MessageType.IMAGE: (re.compile(r"image/(jpeg|png|gif|webp)"), "a JPEG, PNG, WebP or GIF file"),
    MessageType.STICKER: (re.compile(r"image/webp"), "a WebP file"),
    MessageType.VIDEO: (re.compile(r"video/.*|image/gif"), "a video file, such as MP4"),
    # A container's first bytes do not say whether pictures are in it.
    MessageType.AUDIO: (
        re.compile(r"audio/.*|video/(mp4|webm|3gpp)|application/ogg"),
        "an audio file, such as Ogg Opus",
    ),
    MessageType.DOCUMENT: None,
}

MEDIA_TYPES: Final = frozenset(_FITS)


def unfit(type_: MessageType, mimetype: str) -> str | None:
    """What a message of this type carries instead of such a file; None: it fits."""
    rule = _FITS[type_]
    return None if rule is None or rule[0].fullmatch(mimetype) else rule[1]


def safe_filename(name: str | None) -> str | None:
    """The name as it may be shown, stored and put into a header; None when nothing of it is left.

    Only the part after the last slash or backslash counts, in normal form C, of at most 255 bytes of UTF-8; its ending
    stays. It names nothing on our disk.
    """
    if name is None:
        return None
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    clean = _UNSAFE.sub("", last.encode("utf-8", "ignore").decode()).strip(" .")
    stem, dot, ending = clean.rpartition(".")
    if not dot or len(ending) > _MAX_ENDING:
        stem, dot, ending = clean, "", ""
    kept = stem.encode()[: _MAX_FILENAME_BYTES - len((dot + ending).encode())].decode("utf-8", "ignore")
    return f"{kept}{dot}{ending}" or None


def plain_mimetype(declared: str | None) -> str | None:
    """A Content-Type's type alone, in lower case; None for none, or for what is no type."""
    if declared is None:
        return None
    found = declared.partition(";")[0].strip().lower()
    return found if _MIMETYPE.fullmatch(found) else None


def is_shown_inline(mimetype: str) -> bool:
    """Whether a browser may show such a file in place; anything that might run is only ever saved."""
    return _SHOWN_INLINE.fullmatch(mimetype) is not None
