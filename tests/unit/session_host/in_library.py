"""What the library's messages become, and what is said of files: everything that needs the library's own classes.

Its name keeps it out of a normal run: importing it loads the Go library, so it has a process of its own.
"""

import base64
import io
import struct
from typing import Any

import pytest
from PIL import Image

from session_host.whatsapp.library import _find_magic

_find_magic()

from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as e2e  # noqa: E402 - libmagic must be found first

from session_host.whatsapp import contents, inbound, media  # noqa: E402 - as above
from session_host.whatsapp.port import Outgoing, OutgoingFile  # noqa: E402 - as above
from shared.hosts.protocol import Quoted  # noqa: E402 - as above


def read(message: Any) -> tuple[str, dict[str, Any]] | None:
    return inbound._content(message)


@pytest.mark.parametrize(
    "wrapper", ["ephemeralMessage", "viewOnceMessageV2", "associatedChildMessage", "groupMentionedMessage"]
)
def test_a_message_inside_a_message_is_that_message(wrapper: str) -> None:
    inner = e2e.Message(conversation="inside")

    found = read(e2e.Message(**{wrapper: e2e.FutureProofMessage(message=inner)}))

    assert found == ("text", {"text": "inside", "reply_to": None})


def test_a_tap_on_a_button_or_a_row_is_a_text_with_the_id_of_what_was_tapped() -> None:
    reply = e2e.ListResponseMessage.SingleSelectReply(selectedRowID="row-7")
    for message in (
        e2e.Message(
            buttonsResponseMessage=e2e.ButtonsResponseMessage(selectedDisplayText="Yes", selectedButtonID="row-7")
        ),
        e2e.Message(
            templateButtonReplyMessage=e2e.TemplateButtonReplyMessage(selectedDisplayText="Yes", selectedID="row-7")
        ),
        e2e.Message(listResponseMessage=e2e.ListResponseMessage(title="Yes", singleSelectReply=reply)),
    ):
        assert read(message) == ("text", {"text": "Yes", "button_id": "row-7", "reply_to": None})


def test_a_place_that_moves_is_a_location() -> None:
    found = read(e2e.Message(liveLocationMessage=e2e.LiveLocationMessage(degreesLatitude=1.5, degreesLongitude=2.5)))

    assert found is not None
    assert (found[0], found[1]["live"], found[1]["latitude"]) == ("location", True, 1.5)


def test_a_file_brings_what_opens_it() -> None:
    image = e2e.ImageMessage(directPath="/v/x", mediaKey=b"k", fileSHA256=b"s", fileEncSHA256=b"e", fileLength=3)

    found = read(e2e.Message(imageMessage=image))

    assert found is not None
    assert found[1]["source"] == {
        "kind": "image",
        "direct_path": "/v/x",
        "media_key": "aw==",
        "sha256": "cw==",
        "enc_sha256": "ZQ==",
        "size": 3,
    }


def test_what_nobody_reads_yet_says_its_kind_and_what_devices_say_among_themselves_is_nothing() -> None:
    keys = e2e.SenderKeyDistributionMessage(groupID="1@g.us")

    assert read(e2e.Message(albumMessage=e2e.AlbumMessage(expectedImageCount=2))) == (
        "unsupported",
        {"kind": "albumMessage"},
    )
    assert read(e2e.Message(senderKeyDistributionMessage=keys)) is None
    assert read(e2e.Message()) is None


def test_text_that_is_no_utf8_is_read_all_the_same() -> None:
    card = e2e.Message(contactMessage=e2e.ContactMessage(displayName="Jo", vcard="BEGIN:VCARD\nTEL:+5511\nFN:ZZ"))
    strange = e2e.Message.FromString(card.SerializeToString().replace(b"ZZ", b"\xff\xfe"))

    found = read(strange)

    assert found is not None
    assert (found[1]["phone"], found[1]["vcard"][-5:]) == ("5511", "FN:\ufffd\ufffd")


def opus(*, seconds: float, skipped: int = 312) -> bytes:
    head = b"OpusHead" + bytes((1, 1)) + struct.pack("<HIhB", skipped, 48_000, 0, 0)
    last = struct.pack("<4sBBqIIIB", b"OggS", 0, 4, skipped + int(seconds * 48_000), 1, 1, 0, 1)
    first = struct.pack("<4sBBqIIIB", b"OggS", 0, 2, 0, 1, 0, 0, 1)
    return first + bytes((len(head),)) + head + last + b"\x05sound"


def drawn(kind: str, size: tuple[int, int] = (300, 200), *, lies_on_its_side: bool = False) -> bytes:
    out = io.BytesIO()
    exif = Image.Exif()
    if lies_on_its_side:
        exif[0x0112] = 6
    Image.new("RGB", size, "red").save(out, format=kind, exif=exif)
    return out.getvalue()


def test_how_long_a_voice_note_plays_is_read_from_its_pages() -> None:
    assert media.opus_seconds(opus(seconds=3.4)) == 3
    assert media.opus_seconds(opus(seconds=0.2)) == 1
    assert media.opus_seconds(opus(seconds=3)[:-10]) is None
    assert media.opus_seconds(b"OggS and no Opus") is None
    assert media.opus_seconds(b"") is None


def test_a_voice_note_says_what_phones_want_to_know_and_nothing_else_is_one() -> None:
    wave = base64.b64encode(bytes(64)).decode()
    said = media.describe(
        "audio", {"ptt": True, "waveform": wave}, OutgoingFile(data=opus(seconds=2), mimetype="audio/ogg")
    )

    assert said == {"mimetype": media.VOICE_MIMETYPE, "seconds": 2, "PTT": True, "waveform": bytes(64)}
    with pytest.raises(media.Unfit, match="ffmpeg"):
        media.describe("audio", {"ptt": True}, OutgoingFile(data=b"ID3", mimetype="audio/mpeg"))


def test_an_image_is_measured_as_it_is_seen_and_has_a_small_picture() -> None:
    said = media.describe("image", {}, OutgoingFile(data=drawn("JPEG", lies_on_its_side=True), mimetype="image/jpeg"))

    assert (said["width"], said["height"]) == (200, 300)
    small = Image.open(io.BytesIO(said["JPEGThumbnail"]))
    assert max(small.size) <= 96
    assert small.height > small.width


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        drawn("PNG")[:40],
        b"\xff\xd8\xff" + bytes(50),
        drawn("AVIF")[:-5] + bytes(5),
        drawn("EPS"),
    ],
)
def test_an_image_that_cannot_be_read_is_sent_without_measures(data: bytes) -> None:
    said = media.describe("image", {"width": 5}, OutgoingFile(data=data, mimetype="image/png"))

    assert "JPEGThumbnail" not in said
    assert said["width"] == 5


def test_a_document_has_a_name_in_any_case() -> None:
    file = OutgoingFile(data=b"x", mimetype="application/pdf", filename="stored.pdf")

    assert media.describe("document", {"filename": "given.pdf"}, file)["fileName"] == "given.pdf"
    assert media.describe("document", {}, file)["fileName"] == "stored.pdf"
    assert media.describe("document", {}, OutgoingFile(data=b"x", mimetype="a/b"))["fileName"] == "file"


def outgoing(type_: str, payload: dict[str, Any], **more: Any) -> Outgoing:
    return Outgoing(to="1@g.us", type=type_, payload=payload, secret=bytes(32), **more)


def test_a_reply_from_another_chat_says_which() -> None:
    quoted = Quoted(wire_id="3EB0AA", sender_jid="2@lid", text="hi", chat_jid="3@g.us")

    context = contents.build(outgoing("text", {"text": "privately"}, reply_to=quoted)).extendedTextMessage.contextInfo

    assert (context.stanzaID, context.participant, context.remoteJID) == ("3EB0AA", "2@lid", "3@g.us")
    assert context.quotedMessage.conversation == "hi"


@pytest.mark.parametrize(
    ("type_", "payload"), [("image", {}), ("telegram", {}), ("location", {"latitude": 1}), ("poll", {})]
)
def test_what_cannot_be_built_is_refused_and_never_raises_anything_else(type_: str, payload: dict[str, Any]) -> None:
    with pytest.raises(contents.Unsupported):
        contents.build(outgoing(type_, payload))
