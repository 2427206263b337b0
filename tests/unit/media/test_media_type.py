"""The first bytes say what a file is; what is declared counts only where it says the same more exactly."""

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.media import is_shown_inline, plain_mimetype, unfit
from shared.domain.media_type import SNIFF_BYTES, decide, sniff
from shared.domain.message import MessageType


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "<w:document/>")
    return file.getvalue()


DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("beginning", "type_"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "audio/wav"),
        (b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "image/bmp"),
        (b"\0\0\0\x18ftypmp42", "video/mp4"),
        (b"\0\0\0\x18ftypisom", "video/mp4"),
        (b"\0\0\0\x18ftypM4A ", "audio/mp4"),
        (b"\0\0\0\x18ftyp3gp5", "video/3gpp"),
        (b"\0\0\0\x18ftypqt  ", "video/quicktime"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"\x1aE\xdf\xa3", "video/webm"),
        (b"OggS\0\2" + bytes(22) + b"OpusHead", "audio/ogg"),
        (b"OggS\0\2" + bytes(22) + b"\x80theora", "video/ogg"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90\x44", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"#!AMR\n", "audio/amr"),
        (b"%PDF-1.7", "application/pdf"),
        (_zip(), "application/zip"),
        (b"MZ\x90\0\3\0\0\0", "application/x-msdownload"),
        (b"<!DOCTYPE html><p>", "text/html"),
        (b"\xef\xbb\xbf \n<!-- a -->\n<SCRIPT>alert(1)</SCRIPT>", "text/html"),
        ("<script>x</script>".encode("utf-16"), "text/html"),
        (b"<?xml version='1.0'?><!-- x --><svg onload='x'>", "image/svg+xml"),
        (b"<svg/onload=alert(1)>", "image/svg+xml"),
        (b"<?xml version='1.0'?><note/>", "text/xml"),
        (b"BMW,Model\n1,2\n", "text/plain"),
        (b"MZ,Model\n1,2\n", "text/plain"),
        ("olá".encode(), "text/plain"),
        (b"\xff\xff\xff\xff", None),
        (b"\x00\x01\x02\x03", None),
        (b"caf\xe9 in latin-1", None),
        (b"", None),
    ],
)
def test_the_first_bytes_say_what_it_is(beginning: bytes, type_: str | None) -> None:
    assert sniff(beginning) == type_


@pytest.mark.parametrize(
    ("beginning", "declared", "kept"),
    [
        (_zip(), DOCX, DOCX),
        (_zip(), "image/png", "application/zip"),
        (b"\0\0\0\x18ftypisom", "audio/mp4", "audio/mp4"),
        (b"\0\0\0\x18ftypisom", "image/jpeg", "video/mp4"),
        (b"a,b\n", "text/csv", "text/csv"),
        (b"{}", "application/json", "application/json"),
        (b"a,b\n", "text/html", "text/plain"),
        (b"\x00\x01", "application/x-custom", "application/x-custom"),
        (b"\x00\x01", "image/png", "application/octet-stream"),
        (b"\x00\x01", "text/html", "application/octet-stream"),
        (b"\x00\x01", None, "application/octet-stream"),
        (b"<svg >", "text/plain", "image/svg+xml"),
        (b"<html >", "application/pdf", "text/html"),
    ],
)
def test_what_is_declared_counts_where_it_says_the_same_more_exactly(
    beginning: bytes, declared: str | None, kept: str
) -> None:
    assert decide(beginning, declared) == kept


@given(st.binary(max_size=200), st.sampled_from(["text/html", "image/svg+xml", "text/xml", "application/xhtml+xml"]))
def test_nothing_becomes_markup_because_somebody_says_so(beginning: bytes, declared: str) -> None:
    assert decide(beginning, declared) in {sniff(beginning), "application/octet-stream", "image/svg+xml"}
    assert not is_shown_inline(decide(b"<" + beginning, declared)) or sniff(b"<" + beginning) == "text/plain"


@given(st.text(min_size=SNIFF_BYTES // 2, max_size=SNIFF_BYTES, alphabet="aé€𝄞"))
def test_a_text_is_one_wherever_the_look_at_it_ends(text: str) -> None:
    assert sniff(text.encode() * 2) == "text/plain"


@given(st.one_of(st.none(), st.text()))
def test_a_declared_type_is_a_plain_one_or_none(declared: str | None) -> None:
    found = plain_mimetype(declared)

    assert found is None or (found.isascii() and found == found.lower() and ";" not in found and found.count("/") == 1)


@pytest.mark.parametrize(
    ("type_", "mimetype", "fits"),
    [
        (MessageType.IMAGE, "image/jpeg", True),
        (MessageType.IMAGE, "image/svg+xml", False),
        (MessageType.STICKER, "image/webp", True),
        (MessageType.STICKER, "image/png", False),
        (MessageType.AUDIO, "video/mp4", True),
        (MessageType.AUDIO, "text/html", False),
        (MessageType.VIDEO, "audio/ogg", False),
        (MessageType.DOCUMENT, "text/html", True),
    ],
)
def test_each_type_carries_its_files(type_: MessageType, mimetype: str, fits: bool) -> None:
    assert (unfit(type_, mimetype) is None) is fits
