"""Nodes to bytes and back, in WhatsApp's binary XML."""

import zlib
from collections.abc import Mapping
from functools import cached_property
from typing import NoReturn

from local.fake_whatsapp.protocol.node import LID_SERVER, USER_SERVER, Content, Jid, Node
from local.fake_whatsapp.protocol.tokens import Dictionaries

EMPTY = 0
FIRST_DOUBLE = 236
DEVICE_JID = 247
LIST_8 = 248
LIST_16 = 249
JID_PAIR = 250
HEX_8 = 251
BYTES_8 = 252
BYTES_20 = 253
BYTES_32 = 254
NIBBLE_8 = 255

COMPRESSED = 2
ALPHABETS = {NIBBLE_8: "0123456789-.", HEX_8: "0123456789ABCDEF"}
DEVICE_DOMAINS = {USER_SERVER: 0, LID_SERVER: 1}
DEVICE_SERVERS = {domain: server for server, domain in DEVICE_DOMAINS.items()}
LONGEST_PACKED = 127


class MalformedNode(ValueError):
    """The bytes are not a node; a retry with the same bytes fails the same way."""


class Codec:
    """Encodes and decodes nodes with one version of the dictionaries."""

    def __init__(self, dictionaries: Dictionaries) -> None:
        self._dictionaries = dictionaries

    @cached_property
    def _token_bytes(self) -> Mapping[str, bytes]:
        double = {
            word: bytes((FIRST_DOUBLE + table, index))
            for table, words in enumerate(self._dictionaries.double)
            for index, word in enumerate(words)
        }
        single = {word: bytes((index,)) for index, word in enumerate(self._dictionaries.single) if word}
        return {**double, **single}

    def encode(self, node: Node) -> bytes:
        """One uncompressed frame body."""
        out = bytearray((0,))
        _Writer(out, self._token_bytes).node(node)
        return bytes(out)

    def decode(self, body: bytes) -> Node:
        """The node in a frame body, inflated when it is compressed; raises MalformedNode."""
        try:
            data = zlib.decompress(body[1:]) if body[0] & COMPRESSED else body[1:]
            return _Reader(data, self._dictionaries).node()
        except (IndexError, UnicodeDecodeError, zlib.error) as error:
            raise MalformedNode(str(error)) from error


class _Writer:
    def __init__(self, out: bytearray, tokens: Mapping[str, bytes]) -> None:
        self._out = out
        self._tokens = tokens

    def node(self, node: Node) -> None:
        self._list_header(1 + 2 * len(node.attrs) + (node.content is not None))
        self._text(node.tag)
        for name, value in node.attrs.items():
            self._text(name)
            if isinstance(value, Jid):
                self._jid(value)
            else:
                self._text(value)
        if isinstance(node.content, bytes):
            self._bytes(node.content)
        elif node.content is not None:
            self._list_header(len(node.content))
            for child in node.content:
                self.node(child)

    def _list_header(self, size: int) -> None:
        if size == 0:
            self._out.append(EMPTY)
        elif size < 1 << 8:
            self._out += bytes((LIST_8, size))
        else:
            self._out.append(LIST_16)
            self._out += size.to_bytes(2, "big")

    def _bytes(self, data: bytes) -> None:
        if len(data) < 1 << 8:
            self._out += bytes((BYTES_8, len(data)))
        elif len(data) < 1 << 20:
            self._out.append(BYTES_20)
            self._out += len(data).to_bytes(3, "big")
        else:
            self._out.append(BYTES_32)
            self._out += len(data).to_bytes(4, "big")
        self._out += data

    def _text(self, text: str) -> None:
        token = self._tokens.get(text)
        if token is not None:
            self._out += token
            return
        for kind, alphabet in ALPHABETS.items():
            if 0 < len(text) <= LONGEST_PACKED and all(letter in alphabet for letter in text):
                self._packed(kind, text)
                return
        self._bytes(text.encode())

    def _packed(self, kind: int, text: str) -> None:
        digits = [ALPHABETS[kind].index(letter) for letter in text]
        is_odd = len(digits) % 2
        if is_odd:
            digits.append(15)
        self._out += bytes((kind, is_odd << 7 | len(digits) // 2))
        self._out += bytes(high << 4 | low for high, low in zip(digits[::2], digits[1::2], strict=True))

    def _jid(self, jid: Jid) -> None:
        if jid.device and jid.server in DEVICE_DOMAINS:
            self._out += bytes((DEVICE_JID, DEVICE_DOMAINS[jid.server], jid.device))
            self._text(jid.user)
            return
        self._out.append(JID_PAIR)
        if jid.user:
            self._text(jid.user)
        else:
            self._out.append(EMPTY)
        self._text(jid.server)


class _Reader:
    def __init__(self, data: bytes, dictionaries: Dictionaries) -> None:
        self._data = data
        self._at = 0
        self._dictionaries = dictionaries

    def node(self) -> Node:
        size = self._list_size(self._number(1))
        if size < 1:
            _refuse("a node without a tag")
        tag = self._text()
        attrs = {}
        for _ in range((size - 1) // 2):
            name = self._text()
            attrs[name] = self._text()
        return Node(tag, attrs, self._content() if size % 2 == 0 else None)

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            _refuse("the node ends too early")
        self._at += size
        return taken

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _list_size(self, kind: int) -> int:
        match kind:
            case 0:
                return 0
            case 248:
                return self._number(1)
            case 249:
                return self._number(2)
            case _:
                return _refuse(f"{kind} does not start a list")

    def _content(self) -> Content:
        kind = self._number(1)
        if kind in (LIST_8, LIST_16):
            return tuple(self.node() for _ in range(self._list_size(kind)))
        if kind in (BYTES_8, BYTES_20, BYTES_32):
            return self._sized(kind)
        return self._word(kind).encode() if kind != EMPTY else ()

    def _text(self) -> str:
        kind = self._number(1)
        if kind in (BYTES_8, BYTES_20, BYTES_32):
            return self._sized(kind).decode()
        return self._word(kind)

    def _sized(self, kind: int) -> bytes:
        return self._take(self._number({BYTES_8: 1, BYTES_20: 3, BYTES_32: 4}[kind]))

    def _word(self, kind: int) -> str:
        if kind == EMPTY:
            return ""
        if kind in ALPHABETS:
            return self._unpacked(kind)
        if kind == JID_PAIR:
            user = self._text()
            server = self._text()
            return Jid(f"{user}@{server}" if user else server)
        if kind == DEVICE_JID:
            domain, device = self._number(1), self._number(1)
            server = DEVICE_SERVERS.get(domain) or _refuse(f"unknown domain {domain}")
            return Jid(f"{self._text()}:{device}@{server}")
        if FIRST_DOUBLE <= kind < FIRST_DOUBLE + len(self._dictionaries.double):
            return self._dictionaries.double[kind - FIRST_DOUBLE][self._number(1)]
        return self._dictionaries.single[kind]

    def _unpacked(self, kind: int) -> str:
        size = self._number(1)
        digits = [digit for byte in self._take(size & LONGEST_PACKED) for digit in (byte >> 4, byte & 15)]
        return "".join(ALPHABETS[kind][digit] for digit in (digits[:-1] if size >> 7 else digits))


def _refuse(why: str) -> NoReturn:
    raise MalformedNode(why)
