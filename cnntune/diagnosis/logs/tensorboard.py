"""TensorBoard event files, without TensorBoard: TFRecords that hold Event protocol buffers.

A record is its length (8 bytes), the CRC of that, the data, and the CRC of the data. Fields are
those of tensorflow's `event.proto`, `summary.proto` and `tensor.proto`.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence

from cnntune.diagnosis.logs.protobuf import MalformedError, fields, signed
from cnntune.diagnosis.logs.record import MAX_POINTS, Point, Record

HEADER, FOOTER = struct.Struct("<QI"), struct.Struct("<I")
CRC_MASK = 0xA282EAD8  # TFRecords store CRCs rotated and shifted by this
CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, bits reversed

EVENT_STEP, EVENT_SUMMARY = 2, 5
SUMMARY_VALUE = 1
VALUE_TAG, VALUE_SIMPLE, VALUE_TENSOR = 1, 2, 8
TENSOR_TYPE, TENSOR_CONTENT = 1, 4
TENSOR_VALUES = {5: "f", 6: "d"}  # float_val and double_val
TYPES = {1: "f", 2: "d", 3: "i", 9: "q", 19: "e"}  # DT_FLOAT, DOUBLE, INT32, INT64, HALF
MAX_EVENT_BYTES = 4096  # larger events hold images, histograms or graphs

TRUNCATED = "the truncated last record was skipped"
DAMAGED = "records with a wrong checksum were skipped"

Columns = dict[str, list[Point]]


def is_event_file(head: bytes) -> bool:
    """Whether the bytes start with a TFRecord: eight bytes of length, and their checksum."""
    return len(head) >= HEADER.size and _length(head, 0) is not None


def read(files: Sequence[bytes]) -> list[Record]:
    """The runs in the event files of one folder, given in the order in which they were written.

    A file that continues the steps of the previous one belongs to the same, resumed run; one that
    starts again is a separate run.
    """
    runs: list[tuple[Columns, list[str]]] = []
    for data in files:
        notes: list[str] = []
        columns = scalars(data, notes)
        if not columns:
            continue
        if runs and not _restarts(runs[-1][0], columns):
            _resume(runs[-1], columns)
            runs[-1][1].extend(notes)
        else:
            runs.append((columns, notes))
    return [
        Record(
            "tensorboard",
            columns,
            axis="step",
            part=str(number) if len(runs) > 1 else "",
            notes=tuple(notes),
        )
        for number, (columns, notes) in enumerate(runs, start=1)
    ]


def scalars(data: bytes, notes: list[str]) -> Columns:
    """The scalars of an event file by tag, as (step, value) sorted by step; adds to `notes`."""
    columns: Columns = {}
    points, damaged = 0, 0
    for event, whole in _records(data, notes):
        if not whole:
            damaged += 1
            continue
        try:
            found = list(_scalars_of(event))
        except (MalformedError, struct.error, UnicodeDecodeError):
            damaged += 1
            continue
        for tag, step, value in found:
            columns.setdefault(tag, []).append((step, value))
        points += len(found)
        if points > MAX_POINTS:
            notes.append(f"only the first {MAX_POINTS} values were read")
            break
    if damaged:
        notes.append(f"{damaged} {DAMAGED}")
    return {tag: sorted(dict(points).items()) for tag, points in columns.items()}


def crc32c(data: bytes) -> int:
    """The checksum of TFRecords, masked as they store it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + CRC_MASK) & 0xFFFFFFFF


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ CASTAGNOLI * (crc & 1)
        table.append(crc)
    return tuple(table)


CRC_TABLE = _crc_table()


def _length(data: bytes, at: int) -> int | None:
    """The length of the record at `at`, or None where there is no record."""
    length, checksum = HEADER.unpack_from(data, at)
    return int(length) if crc32c(data[at : at + 8]) == checksum else None


def _records(data: bytes, notes: list[str]) -> Iterator[tuple[bytes, bool]]:
    """The events small enough to be scalars, and whether the checksum of each is right."""
    at = 0
    while at + HEADER.size <= len(data):
        length = _length(data, at)
        if length is None:
            notes.append("the file is damaged: what follows the damage cannot be read")
            return
        begin, end = at + HEADER.size, at + HEADER.size + length
        if end + FOOTER.size > len(data):
            break
        if length <= MAX_EVENT_BYTES:
            event = data[begin:end]
            yield event, crc32c(event) == FOOTER.unpack_from(data, end)[0]
        at = end + FOOTER.size
    if at < len(data):
        notes.append(TRUNCATED)


def _scalars_of(event: bytes) -> Iterator[tuple[str, float, float]]:
    """Tag, step and value of each scalar in an event."""
    step = 0.0
    summaries = []
    for field, content in fields(event):
        if field == EVENT_STEP and isinstance(content, int):
            step = float(signed(content))
        elif field == EVENT_SUMMARY and isinstance(content, bytes):
            summaries.append(content)
    for summary in summaries:
        for field, content in fields(summary):
            if field == SUMMARY_VALUE and isinstance(content, bytes):
                tag, value = _tag_and_value(content)
                if value is not None:
                    yield tag, step, value


def _tag_and_value(summary_value: bytes) -> tuple[str, float | None]:
    tag, value = "", None
    for field, content in fields(summary_value):
        if not isinstance(content, bytes):
            continue
        if field == VALUE_TAG:
            tag = content.decode()
        elif field == VALUE_SIMPLE and len(content) == 4:
            value = struct.unpack("<f", content)[0]
        elif field == VALUE_TENSOR:
            value = _single(content)
    return tag, value


def _single(tensor: bytes) -> float | None:
    """The value of a tensor with one number; None for any other, such as a histogram."""
    kind, values = 0, list[float]()
    for field, content in fields(tensor):
        if field == TENSOR_TYPE and isinstance(content, int):
            kind = content
        elif isinstance(content, bytes) and (
            code := TYPES.get(kind) if field == TENSOR_CONTENT else TENSOR_VALUES.get(field)
        ):
            size = struct.calcsize(code)
            if len(content) != size:
                return None
            values.append(float(struct.unpack(f"<{code}", content)[0]))
    return values[0] if len(values) == 1 else None


def _restarts(earlier: Mapping[str, list[Point]], later: Mapping[str, list[Point]]) -> bool:
    """Whether most shared tags start again at their first step."""
    shared = [tag for tag in later if len(earlier.get(tag, ())) > 1]
    restarted = sum(later[tag][0][0] < earlier[tag][1][0] for tag in shared)
    return bool(shared) and restarted * 2 > len(shared)


def _resume(run: tuple[Columns, list[str]], later: Columns) -> None:
    """Replace the earlier points by the later ones, from the first later step on."""
    columns, notes = run
    for tag, points in later.items():
        kept = [point for point in columns.get(tag, []) if point[0] < points[0][0]]
        if len(kept) < len(columns.get(tag, [])) and not notes:
            notes.append("resumed: where steps were logged twice, the later values are used")
        columns[tag] = kept + points
