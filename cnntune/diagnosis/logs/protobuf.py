"""The wire format of protocol buffers, as far as it is needed for training logs.

Source: https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10  # of a 64-bit number


class MalformedError(Exception):
    """Bytes that are not a protocol buffer."""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The field numbers of a message with their values: an int for a varint, bytes for the rest.

    Raises:
        MalformedError: where the bytes end within a field, or a field has an unknown type.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire_type = key & 7
        if wire_type == VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire_type == BYTES:
            size, at = _varint(message, at)
        elif wire_type in (FIXED64, FIXED32):
            size = 8 if wire_type == FIXED64 else 4
        else:
            raise MalformedError(f"wire type {wire_type}")
        if at + size > len(message):
            raise MalformedError("ends within a field")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise MalformedError("ends within a number")


def signed(value: int) -> int:
    """A varint as a signed int64."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
