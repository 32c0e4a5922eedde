"""Write the binary logs of other tools as these tools do, for the tests of their readers."""

import json
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Scalars = Iterable[tuple[str, int, float]]  # tag, step, value


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first, the high bit set on all but the last."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes | int) -> bytes:
    """A field of a protocol buffer: a varint for an int, else bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit, as in RFC 3720, appendix B.4."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    """The checksum as TFRecords store it."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def tfrecord(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def simple_value(value: float) -> bytes:
    """A scalar as PyTorch's SummaryWriter writes it."""
    return varint(2 << 3 | 5) + struct.pack("<f", value)


def tensor_value(value: float) -> bytes:
    """A scalar as TensorFlow 2 writes it: a tensor of type float32 in field 8."""
    return field(8, field(1, 1) + field(4, struct.pack("<f", value)))


def event_file(scalars: Scalars, value: object = simple_value) -> bytes:
    """An event file: the version, then an event a scalar."""
    wall_time = varint(1 << 3 | 1) + struct.pack("<d", 1.7e9)
    events = [wall_time + field(3, b"brain.Event:2")]
    for tag, step, number in scalars:
        assert callable(value)
        summary = field(1, field(1, tag.encode()) + value(number))
        events.append(wall_time + field(2, step) + field(5, summary))
    return b"".join(map(tfrecord, events))


def wandb_file(rows: Iterable[Mapping[str, float]], block: int = 32768) -> bytes:
    """An offline run of Weights & Biases: records cut into chunks that fit into blocks."""
    data = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    header = field(21, b"")  # a record of another kind comes first
    for record in [header, *map(_history, rows)]:
        first, left = True, record
        while left or first:
            room = block - len(data) % block
            if room < 7:
                data += bytes(room)
                room = block
            part, left = left[: room - 7], left[room - 7 :]
            kind = (1 if not left else 2) if first else (4 if not left else 3)
            checksum = zlib.crc32(part, zlib.crc32(bytes([kind])))
            data += struct.pack("<IHB", checksum, len(part), kind) + part
            first = False
    return data


def _history(row: Mapping[str, float]) -> bytes:
    items = [
        field(1, field(2, name.encode()) + field(16, json.dumps(value).encode()))
        for name, value in row.items()
    ]
    return field(2, b"".join(items))


def mlflow_database(
    path: Path, metrics: Iterable[tuple[str, str, float, int, bool]], deleted: Iterable[str] = ()
) -> None:
    """An `mlflow.db` with the columns that matter: run, key, value, step and whether it is NaN."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE runs (run_uuid, name, lifecycle_stage, start_time)")
        db.execute(
            "CREATE TABLE metrics (key, value DOUBLE, timestamp BIGINT, run_uuid, step, is_nan)"
        )
        rows = list(metrics)
        for place, run in enumerate(dict.fromkeys(row[0] for row in rows)):
            stage = "deleted" if run in deleted else "active"
            db.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", (run, f"{run}-name", stage, place))
        for place, (run, key, value, step, is_nan) in enumerate(rows):
            db.execute(
                "INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
                (key, value, place, run, step, is_nan),
            )
    db.close()


def study_database(path: Path, direction: str, values: Sequence[float]) -> Path:
    """A database of Optuna with one trial that reported `values`, in steps from 0."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE studies (study_id, study_name);"
            "CREATE TABLE study_directions (study_id, direction, objective);"
            "CREATE TABLE trials (trial_id, number, study_id);"
            "CREATE TABLE trial_intermediate_values"
            " (trial_id, step, intermediate_value, intermediate_value_type);"
            "INSERT INTO studies VALUES (1, 's'); INSERT INTO trials VALUES (7, 0, 1);"
            f"INSERT INTO study_directions VALUES (1, '{direction}', 0);"
        )
        connection.executemany(
            "INSERT INTO trial_intermediate_values VALUES (7, ?, ?, 'FINITE')", enumerate(values)
        )
    connection.close()
    return path
