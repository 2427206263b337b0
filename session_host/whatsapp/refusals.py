"""What an error text of the library means for a message: refused, in doubt, or not connected.

The library gives whatsmeow's error text and nothing else. A text that nobody knows is in doubt: the device store is
asked before anything is sent again.
"""

import re
from typing import Final

from shared.hosts.protocol import CHAT_RESTRICTED, RATE_OVERLIMIT, Ambiguous, NotConnected, Refused

Verdict = Refused | Ambiguous | NotConnected

_OFFLINE: Final = NotConnected()
_RATE: Final = Refused(code=RATE_OVERLIMIT, detail="WhatsApp limits this number for now (429).")
_RESTRICTED: Final = Refused(
    code=CHAT_RESTRICTED, detail="WhatsApp does not let this number write to this chat now (463)."
)
_NOT_A_RECIPIENT: Final = Refused(
    code="NUMBER_NOT_ON_WHATSAPP", detail="WhatsApp knows no such recipient.", permanent=True
)
_NOT_IN_GROUP: Final = Refused(
    code="RECIPIENT_REFUSED", detail="The group does not exist, or this number is not in it.", permanent=True
)
_MEDIA: Final = Refused(code="MEDIA_UPLOAD_FAILED", detail="WhatsApp did not take the file; another try may work.")
_SERVER: Final = Refused(code="UNAVAILABLE", detail="WhatsApp has a problem of its own.", retry_after_s=10)
_ASKING: Final = Refused(code="UNAVAILABLE", detail="WhatsApp did not answer a question about the recipient.")
# Whoever it was asked about, the answer came before a frame was made of the message.
_QUESTION_REFUSED: Final = Refused(
    code="WHATSAPP_REFUSED", detail="WhatsApp refused a question about the recipient.", max_tries=3
)
_IN_DOUBT: Final = Ambiguous(detail="The connection broke, or WhatsApp did not answer in time.")

# Matched in order: a group's failure may wrap a rate limit or a timeout, so the inner text comes first.
_RULES: Final[tuple[tuple[re.Pattern[str], Verdict], ...]] = tuple(
    (re.compile(pattern), verdict)
    for pattern, verdict in (
        (r"before message send returned response|timed out waiting for message send response", _IN_DOUBT),
        (r"status 429|rate-overlimit|returned error 429", _RATE),
        (r"returned error 463", _RESTRICTED),
        (r"info query (timed out|returned status 5\d\d)|before info query returned response", _ASKING),
        (r"store doesn't contain a device JID|client is nil|websocket not connected", _OFFLINE),
        (r"failed to dial|noise handshake failed|not logged in", _OFFLINE),
        (r"returned error 5\d\d", _SERVER),
        (r"no LID found for|unknown server|user JID with no device part|no signal session", _NOT_A_RECIPIENT),
        (r"not participating in that group|that group does not exist|failed to get group members", _NOT_IN_GROUP),
        (r"failed to refresh media connections|upload failed", _MEDIA),
        (r"info query returned (status|unexpected) 4\d\d", _QUESTION_REFUSED),
    )
)
_SERVER_CODE: Final = re.compile(r"server returned error (\d+)")
# An invalid stanza or a stale Signal session: another try renews the session, and a third one helps no more.
_STALE: Final = 479
_STALE_TRIES: Final = 3


# WhatsApp keeps files for some weeks.
_FILE_GONE: Final = re.compile(r"status code (403|404|410)|no url present|unknown media type|not of a known type")
_FILE_WRONG: Final = re.compile(r"invalid media (enc )?(hmac|sha256)|hash of media|file length|too short")


# A first frame that finds no socket is told as "failed to send message node: …". By itself the text comes of the second
# frame, which the library sends when the socket broke after the first: that one may have arrived.
_SECOND_FRAME: Final = "websocket not connected"


def classify_send(text: str) -> Verdict:
    """What became of a message whose send ended with this error text."""
    return _IN_DOUBT if text == _SECOND_FRAME else classify(text)


def classify_download(text: str) -> Verdict:
    """What the error text of a download means: the file is gone, is not what its message said, or may come later."""
    if _FILE_GONE.search(text):
        return Refused(code="MEDIA_EXPIRED", detail="WhatsApp does not have the file any more.", permanent=True)
    if _FILE_WRONG.search(text):
        return Refused(code="MEDIA_BROKEN", detail="The file is not what its message says.", permanent=True)
    verdict = classify(text)
    if isinstance(verdict, Ambiguous):
        return Refused(code="UNAVAILABLE", detail="The file could not be fetched; another try may work.")
    return verdict


def classify(text: str) -> Verdict:
    """What became of a question, or of what is only shown, that ended with this error text."""
    for pattern, verdict in _RULES:
        if pattern.search(text):
            return verdict
    if found := _SERVER_CODE.search(text):
        code = int(found[1])
        detail = f"WhatsApp refused the message with error {code}."
        if code == _STALE:
            return Refused(code="WHATSAPP_REFUSED", detail=detail, max_tries=_STALE_TRIES)
        return Refused(code="WHATSAPP_REFUSED", detail=detail, permanent=True)
    return Ambiguous(detail="The library ended the send with an error that says too little.")
