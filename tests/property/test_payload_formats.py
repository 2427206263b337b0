"""A payload of any shape is told or left out: a format that raised would hold up every webhook behind it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.webhook import PayloadFormat
from shared.webhooks.formats.freezing import body_of
from shared.webhooks.formats.occasion import Known, references
from shared.webhooks.formats.wamid import reference_of, wamid
from tests.unit.compat.occasions import connection, message, occasion, sent

# Unpaired surrogates never get into the log: the doors refuse them, and Postgres does.
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_TYPES = st.sampled_from(
    [
        *(f"message.{one}" for one in ("received", "reaction", "poll_vote", "queued", "sent", "delivered", "read")),
        *(f"message.{one}" for one in ("played", "dlq", "expired", "canceled", "edited", "revoked", "unheard_of")),
        *("session.status", "session.qr", "session.pair_code", "webhook.disabled"),
    ]
)
_KINDS = st.sampled_from(["text", "image", "audio", "location", "contact", "reaction", "poll", "poll_vote", "edit"])


@st.composite
def payloads(draw: st.DrawFn) -> dict[str, Any]:
    """A payload of ours with some of its members replaced by anything."""
    whole: dict[str, Any] = draw(st.sampled_from([message(), sent(), connection(qr="2@a")]))
    spoiled = draw(st.dictionaries(st.sampled_from(sorted(whole)), _JSON, max_size=5))
    kind = draw(st.none() | _KINDS)
    said = draw(
        st.none() | st.dictionaries(st.sampled_from(["text", "message_id", "reply_to", "options", "name"]), _JSON)
    )
    more = {**({} if kind is None else {"type": kind}), **({} if said is None else {"payload": said})}
    return {**whole, **spoiled, **more}


@given(_TYPES, payloads(), st.sampled_from([PayloadFormat.EVOLUTION, PayloadFormat.CLOUD_API]), st.booleans())
def test_a_payload_of_any_shape_is_told_or_left_out(
    type_: str, payload: dict[str, Any], form: PayloadFormat, is_known: bool
) -> None:
    found = references(payload) if is_known else set()
    known = {one: Known(id="an-id", message_id="a-name", from_me=True) for one in found}

    body = body_of(form, occasion(type_, payload, known=known), subscribed=("*",))

    assert body is None or isinstance(json.loads(body), dict)
    assert body == body_of(form, occasion(type_, payload, known=known), subscribed=("*",))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255))
def test_a_wamid_gives_back_what_it_was_made_of(reference: str) -> None:
    assert reference_of(wamid(reference)) == reference


@given(st.text(max_size=300))
def test_what_is_no_wamid_of_ours_names_nothing(stranger: str) -> None:
    found = reference_of(stranger)

    assert found is None or wamid(found) == stranger
