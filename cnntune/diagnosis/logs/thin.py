"""Logs of any length: of their lines, as many as fit into memory, evenly over the whole log.

Lines of one kind differ only in their digits: the rows of a table with the same empty cells, or
the lines that one `print` wrote. Each kind is thinned separately, so that the few lines of
validation stay while every k-th line of the many training steps is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from cnntune.diagnosis.logs.wide import narrowing

THIN_ABOVE = 16 * 2**20  # bytes; shorter logs are read whole
KEPT_BYTES = 8 * 2**20  # of the lines that are kept
CHUNK = 2**20
MAX_SHARE = 0.25  # of these for one line, which would leave no room for those that are alike
MAX_LINE_BYTES = 2**22  # a longer line is not one of a log, and is not kept whole
MAX_KINDS = 1000  # further kinds are taken for one: their lines have no pattern
SEPARATORS = (b",", b";", b"\t", b"|")
DIGITS = b"0123456789.+-"
DOCUMENT_STARTS = (b"{", b"[")  # a JSON document cannot be read in part, unlike lines of JSON
UTF_16 = (b"\xff\xfe", b"\xfe\xff")

GOLDEN, RANGE = 0x9E3779B1, 2**32  # multiples of their ratio spread evenly, without a period

EMPTY = b"\1"  # marks a cell without a value
Line = tuple[int, int, bytes]  # its number, its place in 0..`RANGE`, and its bytes


@dataclass
class _Kind:
    """The lines of one kind that are kept: those whose place is below `limit`."""

    lines: list[Line] = field(default_factory=list)
    limit: int = RANGE
    seen: int = 0

    def halve(self) -> int:
        """Drop about every other line; returns the number of bytes dropped."""
        self.limit //= 2
        dropped = sum(len(line) for _, at, line in self.lines if at >= self.limit)
        self.lines = [line for line in self.lines if line[1] < self.limit]
        return dropped


def has_lines(head: bytes) -> bool:
    """Whether a text consists of lines that can be read one without the other."""
    first, _, rest = head.partition(b"\n")
    if head.startswith(UTF_16) or b"\0" in head[:64]:
        return False
    if first.strip() in DOCUMENT_STARTS:
        return False
    return not head.lstrip().startswith(DOCUMENT_STARTS) or bool(rest)


def read_lines(head: bytes, stream: BinaryIO) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of a log that begins with `head`, thinned if long or wide, and notes on it."""
    data = head + stream.read(THIN_ABOVE + 1 - len(head))
    separator = max(SEPARATORS, key=head.count)
    found = narrowing(data.partition(b"\n")[0].rstrip(b"\r"), separator)
    if len(data) <= THIN_ABOVE and found is None:
        return data, ()
    notes = [] if found is None else [found[1]]
    kinds: dict[bytes, _Kind] = {}
    kept = number = 0
    for whole in _lines(data, stream):
        lines = whole if found is None else [found[0](line) for line in whole]
        for line, key in zip(lines, _keys(lines, separator), strict=True):
            kind = kinds.get(key)
            if kind is None:
                kind = kinds.setdefault(key if len(kinds) < MAX_KINDS else b"", _Kind())
            at = kind.seen * GOLDEN % RANGE
            kind.seen += 1
            number += 1
            if at < kind.limit and len(line) <= KEPT_BYTES * MAX_SHARE:
                kind.lines.append((number, at, line))
                kept += len(line)
                if kept > KEPT_BYTES:
                    kept -= max(kinds.values(), key=lambda kind: len(kind.lines)).halve()
    thinned = sorted(line for kind in kinds.values() for line in kind.lines)
    part = RANGE // min(kind.limit for kind in kinds.values())
    if part > 1:
        notes.append(f"the log is long: of lines that are alike, one in {part} was read")
    return b"\n".join(line for _, _, line in thinned), tuple(notes)


def _keys(lines: list[bytes], separator: bytes) -> list[bytes]:
    """What lines of one kind have in common: their text without digits, empty cells marked."""
    joined = b"\n".join(lines)
    empty, marked = 2 * separator, separator + EMPTY + separator
    joined = joined.replace(empty, marked).replace(empty, marked)  # twice, since they overlap
    joined = joined.replace(separator + b"\n", separator + EMPTY + b"\n")
    return joined.translate(None, DIGITS).split(b"\n")


def _lines(data: bytes, stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of `data` and the stream, without their ends, at most a chunk at once.

    The returns of a progress bar end lines too. A last line without an end is followed by nothing;
    after any other last line there is an empty one.
    """
    rest = b""
    while data:
        data = rest + data
        held = b"\r" if data.endswith(b"\r") else b""  # its newline may be in the next chunk
        data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n")
        rest = rest + held if len(rest) <= MAX_LINE_BYTES else b""
        if lines:  # a chunk may lie inside one long line
            yield lines
        data = stream.read(CHUNK)
    yield [rest]
