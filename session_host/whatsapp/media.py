"""Messages that carry a file: what WhatsApp wants to know of it, read from the file or taken from the payload.

Nothing here needs ffmpeg: an image is measured with Pillow, a voice note by its own Ogg pages; of videos and other
audio the payload may say what it knows.
"""

import base64
import io
import struct
from collections.abc import Mapping
from typing import Any, Final

from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as e2e
from neonize.utils.enum import MediaType
from PIL import Image, ImageOps, UnidentifiedImageError

from session_host.whatsapp.port import OutgoingFile

# Any in this module: neonize ships no types for its generated messages.

_Payload = Mapping[str, Any]

# Shown while the file itself is not there yet; phones make theirs about this small.
_THUMBNAIL_PX: Final = 96
_THUMBNAIL_QUALITY: Final = 50
# A file may promise more pixels than a host has memory for; such an image is sent without a thumbnail.
_MOST_PIXELS: Final = 50_000_000
# What phones and cameras make. Pillow reads more, and starts Ghostscript for some of it.
_IMAGES: Final = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_OPUS_HZ: Final = 48_000
_OGG_HEADER: Final = struct.Struct("<4sBBqIIIB")
# Of the payload's own word, by type.
_TAKEN: Final = {
    "image": ("width", "height"),
    "video": ("seconds", "width", "height"),
    "audio": ("seconds",),
    "document": (),
    "sticker": ("width", "height"),
}
_WITH_THUMBNAIL: Final = frozenset({"image", "video", "document"})
_ORIENTATION: Final = 0x0112  # the EXIF tag; from 5 on the picture lies on its side
_ON_ITS_SIDE: Final = 5
VOICE_MIMETYPE: Final = "audio/ogg; codecs=opus"

KINDS: Final[dict[str, MediaType]] = {
    "image": MediaType.MediaImage,
    "sticker": MediaType.MediaImage,
    "video": MediaType.MediaVideo,
    "audio": MediaType.MediaAudio,
    "document": MediaType.MediaDocument,
}


class Unfit(ValueError):
    """The file cannot be sent as a message of this type; the text says why and what to do."""


def describe(type_: str, payload: _Payload, file: OutgoingFile) -> dict[str, Any]:
    """What the message says of its file, beside where it lies. Decodes images: call it in a thread. Raises Unfit."""
    said: dict[str, Any] = {"mimetype": file.mimetype}
    match type_:
        case "image":
            said |= _measured(file.data) | _captioned(payload)
        case "sticker":
            said |= {name: value for name, value in _measured(file.data).items() if name != "JPEGThumbnail"}
        case "video":
            said |= _captioned(payload) | {"gifPlayback": payload.get("gif", False)}
        case "audio":
            said |= _audio(payload, file)
        case "document":
            name = payload.get("filename") or file.filename or "file"
            said |= _captioned(payload) | {"fileName": name, "title": name}
    for name in _TAKEN[type_]:
        if name in payload:
            said[name] = payload[name]
    if "thumbnail" in payload and type_ in _WITH_THUMBNAIL:
        said["JPEGThumbnail"] = base64.b64decode(payload["thumbnail"])
    return said


def message(type_: str, said: Mapping[str, Any], uploaded: Any) -> Any:  # noqa: ANN401 - neonize ships no types
    """The message with its file where the library has put it."""
    place = {
        "URL": uploaded.url,
        "directPath": uploaded.DirectPath,
        "mediaKey": uploaded.MediaKey,
        "fileEncSHA256": uploaded.FileEncSHA256,
        "fileSHA256": uploaded.FileSHA256,
        "fileLength": uploaded.FileLength,
    }
    return e2e.Message(**{f"{type_}Message": _CLASSES[type_](**said, **place)})


def source_message(source: Any) -> Any:  # noqa: ANN401 - protocol.MediaSource, as the library wants it
    """A message that leads the library to a file that came in."""
    return e2e.Message(
        **{
            f"{source.kind}Message": _CLASSES[source.kind](
                directPath=source.direct_path,
                mediaKey=source.media_key,
                fileSHA256=source.sha256,
                fileEncSHA256=source.enc_sha256,
                fileLength=source.size,
            )
        }
    )


def opus_seconds(data: bytes) -> int | None:
    """How long an Ogg Opus file plays, from its first and its last page; None for anything else."""
    if not data.startswith(b"OggS") or b"OpusHead" not in data[:64]:
        return None
    head = data.index(b"OpusHead")
    skipped = int.from_bytes(data[head + 10 : head + 12], "little")
    last = data.rfind(b"OggS")
    if len(data) - last < _OGG_HEADER.size:
        return None
    position = _OGG_HEADER.unpack_from(data, last)[3]
    return max(round((position - skipped) / _OPUS_HZ), 1) if position > skipped else None


def _audio(payload: _Payload, file: OutgoingFile) -> dict[str, Any]:
    seconds = opus_seconds(file.data)
    said: dict[str, Any] = {} if seconds is None else {"seconds": seconds, "mimetype": VOICE_MIMETYPE}
    if payload.get("ptt", False):
        if seconds is None:
            raise Unfit(
                "A voice note must be Ogg Opus. Convert it before you send it "
                "(ffmpeg -i in -ac 1 -c:a libopus -b:a 32k out.ogg), or send it without ptt."
            )
        said["PTT"] = True
        if "waveform" in payload:
            said["waveform"] = base64.b64decode(payload["waveform"])
    return said


def _captioned(payload: _Payload) -> dict[str, Any]:
    return {"caption": payload["caption"]} if payload.get("caption") else {}


def _measured(data: bytes) -> dict[str, Any]:
    """Width, height and a thumbnail, as far as the image can be read; phones show it without them too."""
    try:
        with Image.open(io.BytesIO(data), formats=_IMAGES) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION, 1) >= _ON_ITS_SIDE:
                width, height = height, width
            said: dict[str, Any] = {"width": width, "height": height}
            if width * height > _MOST_PIXELS:
                return said
            # A JPEG is decoded small at once.
            image.draft("RGB", (_THUMBNAIL_PX * 2, _THUMBNAIL_PX * 2))
            image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
            small = io.BytesIO()
            ImageOps.exif_transpose(image).convert("RGB").save(small, format="JPEG", quality=_THUMBNAIL_QUALITY)
            return said | {"JPEGThumbnail": small.getvalue()}
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError, RuntimeError):
        return {}


_CLASSES: Final[dict[str, Any]] = {
    "image": e2e.ImageMessage,
    "video": e2e.VideoMessage,
    "audio": e2e.AudioMessage,
    "document": e2e.DocumentMessage,
    "sticker": e2e.StickerMessage,
}
