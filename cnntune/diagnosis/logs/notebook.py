"""Jupyter notebooks: what each code cell printed, and the tables that fastai and Trainer display.

The outputs of one cell are one log, so that two cells are two runs. A displayed table is read only
where a column counts its rows from the start: the head or tail of a table is not a run.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

from cnntune.diagnosis.logs import delimited
from cnntune.diagnosis.logs.cells import number
from cnntune.diagnosis.logs.names import COUNTS, meaning
from cnntune.diagnosis.logs.record import Record, UnreadableLogError

NOTEBOOK = re.compile(r"\s*\{")

Table = list[list[str]]


def is_notebook(text: str) -> bool:
    """Whether a text is a notebook, or the beginning of one."""
    if not NOTEBOOK.match(text) or '"cells"' not in text:
        return False
    return '"cell_type"' in text and ('"nbformat"' in text or '"outputs"' in text)


def read(text: str, read_printed: Callable[[str], list[Record]]) -> list[Record]:
    """The runs of a notebook, the number of the cell as `part` where several cells hold some.

    `read_printed` reads the runs in a printed text.

    Raises:
        UnreadableLogError: where the notebook is not valid JSON.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise UnreadableLogError("incomplete JSON") from None
    cells = document.get("cells") if isinstance(document, Mapping) else None
    found: list[tuple[int, Record]] = []
    for at, cell in enumerate(cells if isinstance(cells, list) else (), start=1):
        outputs = cell.get("outputs") if isinstance(cell, Mapping) else None
        if isinstance(outputs, list):
            found += [(at, record) for record in _read_cell(outputs, read_printed)]
    if len({at for at, _ in found}) < 2:
        return [record for _, record in found]
    return [replace(record, part=f"cell {at} {record.part}".strip()) for at, record in found]


def _read_cell(outputs: Sequence[Any], read_printed: Callable[[str], list[Record]]) -> list[Record]:
    """The runs in the tables of a cell, else those in its printed text."""
    printed, displayed = [], []
    for output in outputs:
        if not isinstance(output, Mapping):
            continue
        data = output.get("data")
        data = data if isinstance(data, Mapping) else {}
        html = _joined(data.get("text/html"))
        displayed.append(html)
        printed.append(
            _joined(output.get("text")) or ("" if html else _joined(data.get("text/plain")))
        )
    tables = [table for html in displayed if "<t" in html for table in tables_of(html)]
    runs = [_read_table(table) for table in tables]
    found = [
        replace(record, part=f"table {at} {record.part}".strip() if len(runs) > 1 else record.part)
        for at, records in enumerate(runs, start=1)
        for record in records
    ]
    text = "\n".join(part.rstrip("\n") for part in printed if part.strip())
    if found or not text:
        return found
    try:
        return read_printed(text + "\n")
    except UnreadableLogError:
        return []  # other cells may hold runs


def _joined(value: Any) -> str:
    """A text, which notebooks hold whole or as a list of lines, as a notebook shows it.

    A carriage return starts the line again, so the last state of a progress bar is what is left.
    """
    if isinstance(value, list):
        value = "".join(part for part in value if isinstance(part, str))
    lines = value.split("\n") if isinstance(value, str) else []
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def tables_of(html: str) -> list[Table]:
    """The tables in HTML, as rows of cells without markup."""
    parser = _Tables()
    parser.feed(html)
    parser.close()
    return [[row for row in table if row] for table in parser.tables]


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self.inside = False

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        if tag in ("table", "tr"):
            self.inside = False  # of a cell that was not closed
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables and self.tables[-1]:
            self.tables[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "table"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            cell = f"{self.tables[-1][-1][-1]} {data}"  # 1<b>2</b> is two numbers
            self.tables[-1][-1][-1] = " ".join(cell.split())


def _read_table(table: Table) -> list[Record]:
    """The runs in a table whose rows are counted from the start; an empty list for any other."""
    if len(table) < 2:
        return []
    names, *rows = table
    kinds = [meaning(name).kind for name in names]
    counted = next((at for at, kind in enumerate(kinds) if kind in COUNTS), None)
    if counted is None:
        return []
    rows = [row for row in rows if len(row) == len(names)]
    counts = [value for row in rows if (value := number(row[counted])) is not None]
    gap = min((b - a for a, b in pairwise(counts)), default=1.0)
    if not counts or counts[0] > max(1.0, gap):
        return []
    try:
        return delimited.read("".join("\t".join(row) + "\n" for row in _lines(names, rows)))
    except UnreadableLogError:
        return []


def _lines(names: list[str], rows: Table) -> Iterator[list[str]]:
    for row in (names, *rows):
        yield [cell.replace("\t", " ") for cell in row]
