"""Reads and writes the few protobuf messages of the Signal protocol: numbers and bytes, each field once."""

from collections.abc import Mapping

VARINT = 0
LENGTH_DELIMITED = 2
# A byte of a number carries seven bits, and says whether another follows.
LOW_BITS = 0x7F
MORE = 0x80


class MalformedMessage(ValueError):
    """The bytes are not such a message, or not one for us; a retry with the same bytes fails the same way."""


def dump(fields: Mapping[int, int | bytes]) -> bytes:
    out = bytearray()
    for number, value in fields.items():
        if isinstance(value, int):
            out += _varint(number << 3 | VARINT) + _varint(value)
        else:
            out += _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(value)) + value
    return bytes(out)


def load(data: bytes) -> "Fields":
    """Raises MalformedMessage when the bytes end too early or use a wire type that Signal does not."""
    fields: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == VARINT:
            fields[key >> 3], at = _read_varint(data, at)
        elif key & 7 == LENGTH_DELIMITED:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise MalformedMessage("a field ends too early")
            fields[key >> 3] = data[at : at + size]
            at += size
        else:
            raise MalformedMessage(f"wire type {key & 7}")
    return Fields(fields)


class Fields:
    """The fields of one message by number."""

    def __init__(self, fields: Mapping[int, int | bytes]) -> None:
        self._fields = fields

    def number(self, field: int) -> int | None:
        value = self._fields.get(field)
        return value if isinstance(value, int) else None

    def data(self, field: int) -> bytes:
        value = self._fields.get(field)
        if not isinstance(value, bytes):
            raise MalformedMessage(f"field {field} is missing")
        return value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > LOW_BITS:
        out.append(number & LOW_BITS | MORE)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        number |= (byte & LOW_BITS) << shift
        shift += 7
        if not byte & MORE:
            return number, at
    raise MalformedMessage("a number ends too early")
