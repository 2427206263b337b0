"""Nodes survive the binary encoding, in every way that a client may write them."""

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.fake_whatsapp.protocol.codec import Codec, MalformedNode
from local.fake_whatsapp.protocol.node import SERVER, Jid, Node
from local.fake_whatsapp.protocol.tokens import Dictionaries

WORDS = ("message", "iq", "to", "s.whatsapp.net", "type", "g.us", "lid")
DICTIONARIES = Dictionaries(
    single=("", *WORDS, *(f"single-{n}" for n in range(len(WORDS) + 1, 236))),
    double=tuple(tuple(f"double-{table}-{n}" for n in range(256)) for table in range(4)),
)
CODEC = Codec(DICTIONARIES)

names = st.one_of(
    st.sampled_from((*WORDS, "single-200", "double-0-0", "double-3-255")),
    st.text(alphabet="0123456789-.", min_size=1, max_size=130),
    st.text(alphabet="0123456789ABCDEF", min_size=1, max_size=130),
    st.text(min_size=1, max_size=300),
)
jids = st.one_of(
    st.just(SERVER),
    st.builds(lambda user: Jid(f"{user}@s.whatsapp.net"), st.from_regex(r"[1-9][0-9]{4,14}", fullmatch=True)),
    st.builds(
        lambda user, device, server: Jid(f"{user}:{device}@{server}"),
        st.from_regex(r"[1-9][0-9]{4,14}", fullmatch=True),
        st.integers(1, 99),
        st.sampled_from(("s.whatsapp.net", "lid")),
    ),
)
attributes = st.dictionaries(names, st.one_of(names, jids), max_size=5)
nodes = st.recursive(
    st.builds(Node, names, attributes, st.one_of(st.none(), st.binary(max_size=400))),
    lambda children: st.builds(Node, names, attributes, st.lists(children, max_size=4).map(tuple)),
    max_leaves=12,
)


@given(nodes)
def test_a_node_comes_back_as_it_was(node: Node) -> None:
    assert CODEC.decode(CODEC.encode(node)) == node


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_crashes(body: bytes) -> None:
    with suppress(MalformedNode):
        CODEC.decode(body)


def test_a_compressed_body_is_inflated() -> None:
    node = Node("iq", {"type": "x" * 1000})

    assert CODEC.decode(b"\x02" + zlib.compress(CODEC.encode(node)[1:])) == node


@pytest.mark.parametrize("size", [255, 256, 1 << 20])
def test_long_content_gets_a_longer_header(size: int) -> None:
    node = Node("iq", {}, bytes(size))

    assert CODEC.decode(CODEC.encode(node)) == node


def test_three_hundred_children_fit() -> None:
    node = Node("iq", {}, tuple(Node("message", {"type": str(n)}) for n in range(300)))

    assert CODEC.decode(CODEC.encode(node)) == node


def test_a_jid_tells_its_parts() -> None:
    jid = Jid("5511999990001:7@s.whatsapp.net")

    assert (jid.user, jid.device, jid.server) == ("5511999990001", 7, "s.whatsapp.net")
    assert (SERVER.user, SERVER.device, SERVER.server) == ("", 0, "s.whatsapp.net")
