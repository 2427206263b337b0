"""The independent checker finds each thing that can go wrong, and nothing in a run that went well."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from local.demo.sink import Sink, Webhook
from local.soak.evidence import Evidence, Findings, Ledger, Letter, findings

ANA, BIA = "5521900000001", "5521900000002"


def on_wire(text: str, *, to: str = ANA, wire_id: str | None = None) -> dict[str, Any]:
    return {"to": to, "text": text, "wire_id": wire_id or f"3A{text}"}


def outbound(text: str, status: str = "delivered") -> dict[str, Any]:
    return {"message_id": text, "status": status}


def inbound(text: str) -> dict[str, Any]:
    return {"payload": {"text": text}}


def webhooks(*texts: str, chat: str = ANA) -> Sink:
    """A sink to which the texts were told in this order."""
    sink = Sink("whsec_unused")
    for number, text in enumerate(texts):
        body = {
            "event": "message.received",
            "sessionId": "shop",
            "sequence": number + 1,
            "payload": {"phone": chat, "payload": {"text": text}},
        }
        sink.webhooks[f"id-{number}"] = Webhook(json.dumps(body).encode(), body)
    return sink


def well() -> Evidence:
    """Three messages out over two chats, two in, everything as it should be."""
    return Evidence(
        Ledger(
            accepted=[Letter(ANA, "a1"), Letter(BIA, "b1"), Letter(ANA, "a2")],
            written=[Letter(ANA, "in-1"), Letter(ANA, "in-2")],
        ),
        outbound=[outbound("a1"), outbound("b1", "sent"), outbound("a2", "read")],
        inbound=[inbound("in-2"), inbound("in-1")],
        wire=[on_wire("b1", to=BIA), on_wire("a1"), on_wire("a2")],
        sink=webhooks("in-1", "in-2"),
    )


def look(*, wire: Sequence[dict[str, Any]]) -> Findings:
    return findings(replace(well(), wire=wire))


def test_a_run_that_went_well_holds() -> None:
    found = findings(well())

    assert found.holds
    assert (found.accepted, found.written, found.frames) == (3, 2, {1: 3})
    assert not found.in_doubt
    assert not found.swallowed


def test_an_accepted_message_that_is_not_on_the_wire_is_lost() -> None:
    found = look(wire=[on_wire("b1", to=BIA), on_wire("a2")])

    assert found.lost == ["a1"]
    assert not found.holds


def test_two_wire_ids_are_a_double_and_a_repeated_frame_is_none() -> None:
    row, again = on_wire("a1"), on_wire("a1", wire_id="another")

    twice = look(wire=[on_wire("b1", to=BIA), row, row, on_wire("a2")])
    doubled = look(wire=[on_wire("b1", to=BIA), row, again, on_wire("a2")])

    assert twice.holds
    assert twice.frames == {1: 2, 2: 1}
    assert doubled.doubled == ["a1"]
    assert not doubled.holds


def test_a_chat_that_overtakes_itself_is_out_of_order_unless_a_person_sent_again() -> None:
    wire = [on_wire("b1", to=BIA), on_wire("a2"), on_wire("a1")]
    evidence = replace(well(), wire=wire)
    sent_again = replace(evidence, ledger=replace(evidence.ledger, again=["a1"]))

    assert findings(evidence).out_of_order == [f"wire, chat {ANA}, from its number 1 on: a2, a1"]
    assert not findings(sent_again).out_of_order


def test_what_nobody_sent_to_a_chat_is_told_too() -> None:
    found = look(wire=[*well().wire, on_wire("a stranger")])

    assert found.out_of_order == [f"wire, chat {ANA}, from its number 3 on: a stranger"]


def test_a_status_that_does_not_fit_the_wire_is_told_and_a_doubt_is_listed() -> None:
    found = findings(replace(well(), outbound=[outbound("a1", "dlq"), outbound("b1", "unknown"), outbound("a2")]))

    assert found.wrong_status == ["a1 is dlq"]
    assert found.in_doubt == ["b1"]


def test_what_came_in_is_stored_once_and_told_once_in_order() -> None:
    swallowed = findings(replace(well(), inbound=[inbound("in-1")], sink=webhooks("in-1")))
    twice = findings(replace(well(), inbound=[inbound("in-1"), inbound("in-1"), inbound("in-2")]))
    untold = findings(replace(well(), sink=webhooks("in-1")))
    turned = findings(replace(well(), sink=webhooks("in-2", "in-1")))

    assert swallowed.swallowed == ["in-2"]
    assert swallowed.holds, "the library had acknowledged it: counted, and judged by how many there are"
    assert twice.stored_twice == ["in-1"]
    assert untold.webhooks_wrong == ["in-2, received, made 0 webhooks"]
    assert len(turned.out_of_order) == 1
    assert not any(one.holds for one in (twice, untold, turned))
