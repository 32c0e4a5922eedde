"""The metric of a script that still runs, read from what it prints and from the files it writes.

The readers of `diagnose` find the columns; here it is decided which log and which column rank the
run, and which of its evaluations are complete.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cnntune.diagnosis.curve import Curve
from cnntune.diagnosis.logs import find, text
from cnntune.diagnosis.logs.align import align
from cnntune.diagnosis.logs.cells import decode
from cnntune.diagnosis.logs.choose import choose
from cnntune.diagnosis.logs.names import CURVES, SCORE_RANK, meaning, words_of
from cnntune.diagnosis.logs.record import Point, Record, UnreadableLogError

Role = Literal["val_acc", "val_loss", "train_acc", "train_loss"]
# What ranks a run, the first that is logged.
ROLES: tuple[Role, ...] = ("val_acc", "val_loss", "train_acc", "train_loss")
HELD_OUT = ROLES[:2]
ENOUGH = 0.5  # of the evaluations: a final test accuracy alone does not rank a curve of losses
SETTLING = 2  # evaluations: until the second begins, a column may be missing from the first
MAX_NAMED = 8  # columns in a message
NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf|nan)"


@dataclass(frozen=True)
class Metric:
    """What `--metric` names: a column, and what is better where its name does not say it."""

    name: str
    goal: Literal["", "max", "min"] = ""

    @classmethod
    def parse(cls, text: str) -> "Metric | None":
        """`val_loss`, `reward:max` or `cost:min`; None for an empty text."""
        if not text:
            return None
        for goal in ("max", "min"):
            if text.endswith(f":{goal}"):
                return cls(text.removesuffix(f":{goal}"), goal)
        return cls(text)

    @property
    def known(self) -> bool:
        """Whether it is clear which direction is better."""
        return bool(self.goal) or meaning(self.name).kind in CURVES

    def role(self) -> Role:
        """The curve that the column is: with a goal a loss, whatever its range."""
        split = "train" if meaning(self.name).split == "train" else "val"
        rate = not self.goal and meaning(self.name).kind in ("accuracy", "error")
        return f"{split}_{'acc' if rate else 'loss'}"  # type: ignore[return-value]

    def mapping(self) -> str:
        """The role as `--map` of `diagnose` names it."""
        error = not self.goal and meaning(self.name).kind == "error"
        return self.role().replace("_acc", "_err") if error else self.role()

    def column(self, record: Record) -> str | None:
        """The column of a record that it names: by letter, else by words, such as `val/loss`."""
        if self.name in record.columns:
            return self.name
        words = words_of(self.name)
        return next((name for name in record.columns if words_of(name) == words), None)


Evaluation = Mapping[str, float | None]  # from the names of curves to values


@dataclass(frozen=True)
class Reading:
    """What a log holds of a run: its complete evaluations, and the column that ranks it."""

    path: Path
    part: str
    role: Role
    column: str
    evaluations: Sequence[Evaluation] = ()
    times: float = 1.0  # the log's own number is `times` x score + `plus`
    plus: float = 0.0
    named: bool = False  # it is no plain loss or accuracy, and is shown by its name
    open: bool = False  # the last one may lack a column, or be half written

    @property
    def source(self) -> tuple[Path, str, Role]:
        """The log and the curve, which a run keeps once they have ranked it."""
        return self.path, self.part, self.role

    def settled(self) -> Sequence[Evaluation]:
        """The evaluations that will not change, of a script that still runs."""
        if len(self.evaluations) < SETTLING:
            return ()
        *before, last = self.evaluations
        whole = not any(
            last[name] is None for name, value in before[-1].items() if value is not None
        )
        return self.evaluations if whole and not self.open else before


@dataclass
class Logs:
    """The logs of one run: what it printed, and the files below its working directory."""

    printed: Sequence[Path]
    folder: Path
    metric: Metric | None = None
    kept: tuple[Path, str, Role] | None = None
    _known: dict[Path, tuple[object, list[Reading]]] = field(default_factory=dict)
    _columns: dict[Path, list[str]] = field(default_factory=dict)

    def read(self, *, ended: bool) -> Reading | None:
        """The log that ranks the run, the one that is kept if there is one; None without any."""
        found: list[Reading] = []
        for path, read in self._sources(ended=ended):
            found += self._read(path, read, ended=ended)
        if self.kept is not None:
            return next((one for one in found if one.source == self.kept), None)
        ranking = [one for one in found if one.evaluations]
        return min(ranking, key=_rank, default=None)

    def _sources(self, *, ended: bool) -> Iterator[tuple[Path, Callable[[], list[Record]]]]:
        """Files first: they have more digits than what is printed."""
        for source in find.sources(self.folder, lambda _: False):
            yield source.path, source.read
        for path in self.printed:
            yield path, lambda path=path: _printed(path, self.metric, ended=ended)  # type: ignore[misc]

    def _read(self, path: Path, read: Callable[[], list[Record]], *, ended: bool) -> list[Reading]:
        """The readings of a log, which is not read again as long as it stays the same."""
        state = (_state(path), ended and path in self.printed)
        known, found = self._known.get(path, (None, []))
        changes = known is not None and known != state
        if known != state:
            try:
                records = read()
            except (UnreadableLogError, OSError):  # half written, or removed meanwhile
                records = []
            self._columns[path] = [name for record in records for name in record.columns]
            found = [one for record in records if (one := _reading(path, record, self.metric))]
            if not found and not ended and self._known.get(path, (None, []))[1]:
                return self._known[path][1]  # a file that is being written anew
        self._known[path] = (state, found)
        growing = path not in self.printed and not ended and (changes or known is None)
        return [replace(one, open=True) if growing else one for one in found]

    def described(self) -> str:
        """Where was looked and what was found there, for a message that there is no metric."""
        looked = [path.name for path in self._columns if path in self.printed]
        looked += [
            str(path.relative_to(self.folder)) for path in self._columns if path not in self.printed
        ]
        names = list(dict.fromkeys(name for found in self._columns.values() for name in found))
        if not names:
            columns = "no column"
        else:
            more = ", ..." if len(names) > MAX_NAMED else ""
            columns = f"columns {', '.join(map(repr, names[:MAX_NAMED]))}{more}"
        return f"{', '.join(looked)}: {columns} found"


def _rank(reading: Reading) -> tuple[int, int]:
    return ROLES.index(reading.role), -len(reading.evaluations)


def _state(path: Path) -> object:
    """What changes where a log does; of a folder, its files."""
    try:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        stats = [file.stat() for file in files]
    except OSError:
        return None
    return [(one.st_mtime_ns, one.st_size) for one in stats]


def _printed(path: Path, metric: Metric | None, *, ended: bool) -> list[Record]:
    """The runs in what a script printed, without a last line that is not whole yet."""
    data, _ = find.read_bytes(path)
    if not ended:
        data = data[: data.rfind(b"\n") + 1]
    records = find.read_data(data) if data.strip() else []
    if any(record.format == "csv" for record in records):  # few printed lines may look like a table
        records = [*records, *text.read(decode(data))]
    if metric is None or any(metric.column(record) for record in records):
        return records
    points = _named(decode(data), metric.name)
    return _joined(records, metric.name, points) if points else records


def _joined(records: Sequence[Record], name: str, points: list[Point]) -> list[Record]:
    """The records of a text with one more column, which counts evaluations.

    In the run that has another curve with as many values, one in each epoch, both were printed
    together: the column is one of that run, and counts what that curve counts. Else it is a run.
    """
    for record in records[:1] if len(records) == 1 else ():
        for column, others in record.columns.items():
            at = [x for x, _ in others]
            if meaning(column).kind in CURVES and len(at) == len(points) == len(set(at)):
                values = [(x, value) for x, (_, value) in zip(at, points, strict=True)]
                return [replace(record, columns={**record.columns, name: values})]
    return [Record("text", {name: points}), *records]


def _named(printed: str, name: str) -> list[Point]:
    """Each number that follows a name in a text, for names that are no word for a metric."""
    found = re.finditer(
        rf"(?<![\w]){re.escape(name)}[\"']?\s*[:=]?\s*{NUMBER}(?![\w])", printed, re.IGNORECASE
    )
    return [(float(at), float(match[1])) for at, match in enumerate(found, start=1)]


def _reading(path: Path, record: Record, metric: Metric | None) -> Reading | None:
    """The reading of one run of a log; None where it has no curve that ranks."""
    mapping: dict[str, str] = {}
    if metric is not None:
        column = metric.column(record)
        if column is None:
            return None
        mapping = {metric.mapping(): column}
    aligned = align(record, choose(record, mapping), least=1)
    curve = aligned.curve
    role = metric.role() if metric is not None else _ranking(curve)
    if role is None or not _logged(curve, role):
        return None
    names = (*(name for name in ROLES if ROLES.index(name) >= ROLES.index(role)), "lr")
    sign = -1.0 if metric is not None and metric.goal == "max" else 1.0
    evaluations = [
        {name: _value(curve, name, at) for name in names if _logged(curve, name)}
        for at in range(len(curve.epochs))
    ]
    evaluations = [one for one in evaluations if one[role] is not None]
    if sign < 0:
        evaluations = [{**one, role: -(one[role] or 0.0)} for one in evaluations]
    known = meaning(aligned.columns[role])
    loss, percent = role.endswith("loss"), 100.0 if role in aligned.percents else 1.0
    error = not loss and known.kind == "error"
    return Reading(
        path,
        record.part,
        role,
        aligned.columns[role],
        evaluations,
        times=-sign if loss else -percent if error else percent,
        plus=percent if error else 0.0,
        named=bool(metric and metric.goal) or known.rank >= SCORE_RANK,
    )


def _ranking(curve: Curve) -> Role | None:
    """The curve by which a run is ranked: validation before training, accuracy before loss."""
    counts = {role: _logged(curve, role) for role in ROLES}
    for roles in (HELD_OUT, ROLES[2:]):
        most = max(counts[role] for role in roles)
        for role in roles:
            if counts[role] and counts[role] >= ENOUGH * most:
                return role
    return None


def _logged(curve: Curve, name: str) -> int:
    return sum(value is not None for value in getattr(curve, name))


def _value(curve: Curve, name: str, at: int) -> float | None:
    values = getattr(curve, name)
    return values[at] if at < len(values) else None


def ranks_while_running(reading: Reading, metric: Metric | None) -> bool:
    """Whether a script that still runs is ranked by this: a validation may yet be logged."""
    return metric is not None or reading.role in HELD_OUT
