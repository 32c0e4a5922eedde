"""Curves that are written as a list each, under or after their name.

train_losses = [2.1, 1.3, 0.9]                    as Python prints a list
val loss: [2.3 1.7                                as NumPy prints an array, over several lines
 1.2]
train_loss,2.1,1.3,0.9                            a table with a row per curve
val_loss:                                         YAML
- 2.3
- 1.7
"""

import re
from collections.abc import Iterable, Iterator

from cnntune.diagnosis.curve import MIN_POINTS
from cnntune.diagnosis.logs.cells import NUMBER, number
from cnntune.diagnosis.logs.json_documents import read_value
from cnntune.diagnosis.logs.names import COUNTS, CURVES, meaning
from cnntune.diagnosis.logs.record import MAX_POINTS, Record

_NAME = r"(?P<name>[^\W\d][\w @()./-]{0,79}?)['\"]? ?"  # bounded: every line is read in linear time
OPENED = re.compile(rf"(?:^|[\s,;{{])['\"]?{_NAME}(?:[:=] ?)?(?:[A-Za-z_.]+\( ?)?\[", re.ASCII)
ROW = re.compile(rf"['\"]?{_NAME}(?P<separator>[,;\t|])(?P<cells>.*)", re.ASCII)
HEADING = re.compile(rf"\s*['\"]?{_NAME}:\s*", re.ASCII)
ITEM = re.compile(rf"\s*- (?P<value>{NUMBER})\s*", re.IGNORECASE | re.ASCII)
WRAPPED = re.compile(
    rf"[A-Za-z][\w.]*\( ?(?P<value>{NUMBER})[^()]*\)(?![\w.])", re.IGNORECASE | re.ASCII
)
BETWEEN = re.compile(r"[,\s]+")
MAX_LIST_LINES = 100_000  # a bracket that is not closed within so many opens no list

Lists = dict[str, list[float]]


def read(text: str) -> list[Record]:
    """The run in a text with lists; an empty list where none of them is a curve.

    A list that is printed again is the same one where it only grew. Where it differs, as the losses
    of the batches of each epoch do, its name is that of no curve.
    """
    lists: Lists = {}
    changed: set[str] = set()
    for name, values in _found(text.split("\n")):
        earlier = lists.get(name, [])
        if values[: len(earlier)] != earlier:
            changed.add(name)
        lists[name] = values
    kept = {
        name: values
        for name, values in lists.items()
        if name not in changed and len(values) >= MIN_POINTS
    }
    return read_value(kept) if _are_curves(kept) else []


def _are_curves(names: Iterable[str]) -> bool:
    """Whether lists hold a value per epoch: accuracies alone may be those of classes or models."""
    known = [meaning(name) for name in names]
    splits = {its.split for its in known if its.kind in CURVES}
    return bool(splits) and (
        any(its.kind == "loss" or its.kind in COUNTS for its in known)
        or ("train" in splits and bool(splits & {"val", "test"}))
    )


def _found(lines: list[str]) -> Iterator[tuple[str, list[float]]]:
    """Each list whose name is that of a curve or a count, with its name."""
    at = points = 0
    while at < len(lines) and points <= MAX_POINTS:
        name, values, at = _list_at(lines, at)
        if values and meaning(name).kind in CURVES | COUNTS:
            points += len(values)
            yield name, values


def _list_at(lines: list[str], at: int) -> tuple[str, list[float], int]:
    """The name and values of a list that begins in a line, if one does, and the next line."""
    line = lines[at]
    if "[" in line and (opened := OPENED.search(line)):
        inside, after = _up_to_bracket(lines, at, opened.end())
        return opened["name"], _numbers(inside), after
    if found := HEADING.fullmatch(line):
        values = []
        after = at + 1
        while after < len(lines) and (item := ITEM.fullmatch(lines[after])):
            values.append(float(item["value"]))
            after += 1
        return found["name"], values, after
    if found := ROW.match(line):
        separator = found["separator"]
        cells = [
            number(cell, decimal_comma=separator != ",")
            for cell in found["cells"].strip().strip("|").split(separator)
        ]
        return found["name"], [] if None in cells else [x for x in cells if x is not None], at + 1
    return "", [], at + 1


def _up_to_bracket(lines: list[str], at: int, start: int) -> tuple[str, int]:
    """What stands between a bracket and the one that closes it, and the line after that.

    Nothing, and the next line, where another bracket is opened before, or none closes it.
    """
    parts: list[str] = []
    rest = lines[at][start:]
    for after in range(at + 1, min(len(lines), at + MAX_LIST_LINES) + 1):
        inside, closed, _ = rest.partition("]")
        if "[" in inside or (parts and not _may_be_numbers(inside)):
            break
        parts.append(inside)
        if closed:
            return " ".join(parts), after
        if after < len(lines):
            rest = lines[after]
    return "", at + 1


def _may_be_numbers(line: str) -> bool:
    return not line.strip() or line.strip()[0] in "+-.0123456789nitaAT"


def _numbers(text: str) -> list[float]:
    """The numbers between commas or blanks; none where anything else is between them."""
    plain = WRAPPED.sub(r"\g<value>", text)
    cells = [number(cell) for cell in BETWEEN.split(plain.strip()) if cell]
    return [] if None in cells else [cell for cell in cells if cell is not None]
