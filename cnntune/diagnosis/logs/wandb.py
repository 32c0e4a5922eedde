"""The `.wandb` file of a Weights & Biases run: LevelDB's log format around protocol buffers.

Layout as in wandb's `datastore.py` and `wandb_internal.proto`. W&B does not guarantee the format:
records that do not match are skipped, and a file without any matching record is unreadable.
"""

import json
import struct
import zlib
from collections.abc import Iterator

from cnntune.diagnosis.logs.cells import as_number
from cnntune.diagnosis.logs.protobuf import MalformedError, fields
from cnntune.diagnosis.logs.record import MAX_POINTS, Record, UnreadableLogError
from cnntune.diagnosis.logs.rows import records

FILE_HEADER = b":W&B\xe1\xbe"  # identifier and magic number; a version byte follows
FILE_HEADER_SIZE = 7
BLOCK = 32768
CHUNK_HEADER = struct.Struct("<IHB")  # checksum of type and data, length, type
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4

RECORD_HISTORY = 2
HISTORY_ITEM = 1
ITEM_KEY, ITEM_NESTED_KEY, ITEM_JSON = 1, 2, 16


def is_wandb_file(head: bytes) -> bool:
    """Whether the bytes are the start of a `.wandb` file."""
    return head.startswith(FILE_HEADER)


def read(data: bytes) -> list[Record]:
    """The run of a `.wandb` file.

    Raises:
        UnreadableLogError: where it holds no history that can be read.
    """
    rows: list[dict[str, float]] = []
    damaged = points = 0
    for message in _messages(data):
        try:
            row = _history(message) if message is not None else None
        except (MalformedError, UnicodeDecodeError):
            row = None
        if row is None:
            damaged += 1
        elif row:
            rows.append(row)
            points += len(row)
        if points > MAX_POINTS:
            break
    if not rows:
        raise UnreadableLogError("holds no history of metrics that can be read")
    return records("wandb", rows, [f"{damaged} damaged records were skipped"] if damaged else [])


def _messages(data: bytes) -> Iterator[bytes | None]:
    """The records of the log, joined from their chunks; None for a damaged one."""
    at, parts = FILE_HEADER_SIZE, list[bytes]()
    while at + CHUNK_HEADER.size <= len(data):
        left = BLOCK - at % BLOCK
        if left < CHUNK_HEADER.size:  # too short for a chunk: padding
            at += left
            continue
        checksum, length, kind = CHUNK_HEADER.unpack_from(data, at)
        chunk = data[at + CHUNK_HEADER.size : at + CHUNK_HEADER.size + length]
        at += CHUNK_HEADER.size + length
        if len(chunk) < length or zlib.crc32(chunk, zlib.crc32(bytes([kind]))) != checksum:
            yield None
            at += -at % BLOCK  # lengths cannot be trusted before the next block
            parts = []
            continue
        parts = [chunk] if kind in (FULL, FIRST) else [*parts, chunk]
        if kind in (FULL, LAST):
            yield b"".join(parts)


def _history(message: bytes) -> dict[str, float]:
    """The numbers of a history record; empty for records of other kinds."""
    row: dict[str, float] = {}
    for field, content in fields(message):
        if field != RECORD_HISTORY or not isinstance(content, bytes):
            continue
        for inner, item in fields(content):
            if inner == HISTORY_ITEM and isinstance(item, bytes):
                key, value = _item(item)
                if value is not None:
                    row[key] = value
    return row


def _item(item: bytes) -> tuple[str, float | None]:
    """Name and value of a metric; the value is JSON, in which W&B also writes NaN."""
    names, value = list[str](), None
    for field, content in fields(item):
        if isinstance(content, bytes):
            if field in (ITEM_KEY, ITEM_NESTED_KEY):
                names.append(content.decode())
            elif field == ITEM_JSON:
                try:
                    value = as_number(json.loads(content))
                except (ValueError, RecursionError):
                    value = None
    return "/".join(filter(None, names)), value
