"""Which type a file is, by its first bytes, as the WHATWG's MIME sniffing standard has it: signatures, no guesses.

A wrong guess would override what the user declared, so signatures of two or three printable bytes (`BM`, `MZ`) need
more beside them: a table of car brands begins with `BMW`.
"""

import re
from typing import Final

# So much of the beginning is looked at.
SNIFF_BYTES: Final = 4096

UNKNOWN: Final = "application/octet-stream"
_TEXT: Final = "text/plain"

_EXACT: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"%PDF-", "application/pdf"),
    (b"#!AMR\n", "audio/amr"),
    (b"#!AMR-WB\n", "audio/amr-wb"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"{\\rtf", "application/rtf"),
    (b"\x7fELF", "application/x-executable"),
    (b"%!PS-Adobe-", "application/postscript"),
)
_ISO_BRANDS: Final = (
    (re.compile(rb"M4A |M4B |M4P "), "audio/mp4"),
    (re.compile(rb"3g[a-z0-9]{2}"), "video/3gpp"),
    (re.compile(rb"qt  "), "video/quicktime"),
    (re.compile(rb"avi[fs]"), "image/avif"),
    (re.compile(rb"hei[cxms]|hev[cx]|mif1|msf1"), "image/heic"),
)
# Markup at the start of a text, after white space, a mark of its encoding, comments and declarations.
_BEFORE_MARKUP: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s+|<!--.*?(?:-->|\Z)|<\?.*?(?:\?>|\Z))*", re.DOTALL)
_HTML: Final = re.compile(
    rb"<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|meta|link|img|object|"
    rb"embed|form|base|input|button|video|audio|marquee|math)[\s/>]",
    re.IGNORECASE,
)
_SVG: Final = re.compile(rb"<(?:!doctype svg|svg)[\s/>]", re.IGNORECASE)
_MARKUP_TYPES: Final = frozenset({"text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/xml"})

# What a file of the sniffed type may be in truth: the declared type is believed when it only says it more exactly.
_NARROWER: Final[dict[str, re.Pattern[str]]] = {
    "application/zip": re.compile(
        r"application/(vnd\.(openxmlformats-officedocument|oasis\.opendocument|ms-|android\.package-archive|apple\.|"
        r"google-earth).*|epub\+zip|java-archive|x-zip.*)"
    ),
    "application/x-ole-storage": re.compile(r"application/(msword|vnd\.ms-.*|vnd\.visio|x-msi)"),
    "application/gzip": re.compile(r"application/(x-gzip|x-tar|x-gtar|x-compressed-tar)"),
    "video/mp4": re.compile(r"(audio|video)/(mp4|x-m4[av]|aac|mpeg)|video/(3gpp2?|quicktime)"),
    "audio/mp4": re.compile(r"audio/(x-m4a|aac|mpeg|m4a)"),
    "video/3gpp": re.compile(r"(audio|video)/3gpp2?"),
    "video/webm": re.compile(r"(audio|video)/(webm|x-matroska)"),
    "audio/ogg": re.compile(r"audio/(opus|vorbis|x-vorbis.*)"),
    "application/ogg": re.compile(r"(audio|video)/ogg"),
    "image/heic": re.compile(r"image/heif"),
    "application/x-executable": re.compile(r"application/x-(elf|sharedlib|executable)"),
    _TEXT: re.compile(
        r"text/(?!html|xml)[a-z0-9.+-]+|application/(json|.*\+json|javascript|x-ndjson|yaml|x-yaml|toml|sql|x-sh|"
        r"x-subrip|pgp-.*|x-pem-file|x-x509-.*|pkcs.*|graphql)|message/rfc822"
    ),
    "text/xml": re.compile(r"application/(.*\+)?xml|image/svg\+xml|text/.*"),
}
# Declared without the signature that each such file begins with, it is not what it says.
_HAVE_SIGNATURES: Final = frozenset(
    {type_ for _, type_ in _EXACT}
    | {type_ for _, type_ in _ISO_BRANDS}
    | _MARKUP_TYPES
    | {"image/webp", "image/bmp", "image/jpg", "video/mp4", "audio/mp4", "audio/ogg", "video/ogg", "application/ogg"}
    | {"audio/wav", "audio/opus", "video/x-matroska", "audio/webm", "image/heif"}
)


def decide(beginning: bytes, declared: str | None) -> str:
    """The type to keep: the sniffed one, unless the declared one only says it more exactly.

    `beginning` are the first SNIFF_BYTES, or all; `declared` is one type in lower case. A file without a signature has
    its declared type, unless that type has one: then it is `application/octet-stream`.
    """
    found = sniff(beginning)
    if found is None:
        return UNKNOWN if declared is None or declared in _HAVE_SIGNATURES else declared
    narrower = _NARROWER.get(found)
    return declared if declared is not None and narrower is not None and narrower.fullmatch(declared) else found


def sniff(beginning: bytes) -> str | None:
    """The type that the first bytes prove; None when they prove none."""
    head = beginning[:SNIFF_BYTES]
    return _of_signature(head) or _of_container(head) or _of_frames(head) or _of_text(head)


def _of_signature(head: bytes) -> str | None:
    return next((type_ for signature, type_ in _EXACT if head.startswith(signature)), None)


def _of_container(head: bytes) -> str | None:
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return next((type_ for brand, type_ in _ISO_BRANDS if brand.fullmatch(head[8:12])), "video/mp4")
    if head[:4] == b"OggS":
        if b"OpusHead" in head[:64] or b"\x01vorbis" in head[:64]:
            return "audio/ogg"
        return "video/ogg" if b"\x80theora" in head[:64] else "application/ogg"
    # The header's size, which follows, tells a bitmap from a text.
    if head[:2] == b"BM" and head[14:18] in {b"\x0c\0\0\0", b"\x28\0\0\0", b"\x38\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0"}:
        return "image/bmp"
    if head[:2] == b"MZ" and b"\0" in head[:64]:
        return "application/x-msdownload"
    return None


def _of_frames(head: bytes) -> str | None:
    """MPEG audio without a tag: a frame's sync bits and values that a frame may have."""
    if len(head) < 4 or head[0] != 0xFF:  # noqa: PLR2004 - a frame's header
        return None
    if head[1] & 0xF6 == 0xF0:  # noqa: PLR2004 - ADTS: layer 0
        return "audio/aac"
    has_layer, bitrate, rate = head[1] & 0xE6 in {0xE2, 0xE4, 0xE6}, head[2] >> 4, head[2] >> 2 & 3
    return "audio/mpeg" if has_layer and bitrate not in {0, 15} and rate != 3 else None  # noqa: PLR2004 - reserved


def _of_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        # UTF-16: what a browser would find in it is looked for too.
        head = head.decode("utf-16", "ignore").encode()
    before = _BEFORE_MARKUP.match(head)
    start = head[before.end() if before else 0 :]
    if _HTML.match(start):
        return "text/html"
    if _SVG.match(start):
        return "image/svg+xml"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:5].lower() == b"<?xml":
        return "text/xml"
    return _TEXT if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    if not head or any(byte < 0x20 and byte not in b"\t\n\x0b\x0c\r\x1b" for byte in head):  # noqa: PLR2004 - space
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The end of what is looked at may cut a character.
        return len(head) == SNIFF_BYTES and error.start > SNIFF_BYTES - 4
    return True
