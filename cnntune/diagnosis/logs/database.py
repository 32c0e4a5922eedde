"""SQLite databases: opened read-only, and asked one question."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnntune.diagnosis.logs.record import MAX_POINTS, UnreadableLogError

SQLITE = b"SQLite format 3\0"
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"


def is_database(head: bytes) -> bool:
    """Whether the bytes are the start of an SQLite database."""
    return head.startswith(SQLITE)


def rows(path: Path, tables: Sequence[str], query: str) -> list[tuple[Any, ...]] | None:
    """What a query returns, up to `MAX_POINTS` rows; None where the database lacks a table.

    Raises:
        UnreadableLogError: where the database is damaged.
    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        try:
            connection.text_factory = lambda text: text.decode(errors="replace")
            if not set(tables) <= {name for (name,) in connection.execute(TABLES)}:
                return None
            return connection.execute(query).fetchmany(MAX_POINTS)
        finally:
            connection.close()
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise UnreadableLogError(f"cannot be read as an SQLite database: {error}") from None
