"""What a study holds on disk, and what went wrong between two looks at it.

It reads what the contract names (run folders, the record in `study.db`, documents) and takes the
record from a copy: opening a database repairs it, which is for the next command to do.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnntune.config.recipe import Recipe, flatten
from cnntune.config.space import Value, draw
from cnntune.errors import StudyError
from cnntune.runs.run import COLUMNS
from cnntune.runs.study import Study
from cnntune.seeds import derive_seed
from cnntune.study.ledger import Ledger

TIMES = ("seconds", "waited_seconds")  # no seed fixes them
RUN = re.compile(r"(?:(refine-\d+)/)?trial-(\d+)(?:-seed-(\d+))?")


@dataclass(frozen=True)
class RunFiles:
    """A run folder: its config, the whole lines of its curve, and its summary once it is there."""

    config: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    summary: str | None = None

    @property
    def result(self) -> list[Any]:
        """What another run of the same recipe must give as well: all but the seconds."""
        summary = json.loads(self.summary) if self.summary else {}
        curve = [line.rpartition(",")[0] for line in self.lines]
        return [without_times(summary), curve, dict(self.config)]


@dataclass(frozen=True)
class Recorded:
    """A trial in the record: what was drawn, and whether it has an end."""

    values: Mapping[str, Value]
    ended: bool = True


@dataclass(frozen=True)
class Record:
    """The record of a search or of a refinement."""

    recipe: Recipe
    trials: Mapping[int, Recorded]


@dataclass(frozen=True)
class Look:
    """A study at a moment: runs by `refine-1/trial-0003-seed-1`, records by `refine-1` or ``."""

    runs: Mapping[str, RunFiles]
    records: Mapping[str, Record]
    documents: Mapping[str, Any] = field(default_factory=dict)


def look(study: Path) -> Look:
    """Read a study that no process works on."""
    rounds = ["", *sorted(path.name for path in study.glob("refine-*"))]
    runs = {
        str(folder.relative_to(study)): run_files(folder)
        for round_ in rounds
        for folder in sorted((study / round_).glob("trial-*"))
    }
    records = {round_: record_of(study / round_) for round_ in rounds}
    documents = {
        str(path.relative_to(study)): json.loads(path.read_text())
        for round_ in rounds
        for path in (study / round_).glob("*.json")
        if path.stem in ("search", "refine", "tune", "lr-sweep", "plan")
    }
    return Look(runs, {name: record for name, record in records.items() if record}, documents)


def run_files(folder: Path) -> RunFiles:
    """One run; a last line that no newline ends does not count."""
    config, curve, summary = (folder / n for n in ("config.json", "metrics.csv", "summary.json"))
    return RunFiles(
        json.loads(config.read_text()) if config.exists() else {},
        tuple(curve.read_text().split("\n")[1:-1]) if curve.exists() else (),
        summary.read_text() if summary.exists() else None,
    )


def record_of(study: Path) -> Record | None:
    """The record, read from a copy; None where none was begun."""
    if not (study / "study.db").exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        for path in study.glob("study.db*"):  # SQLite's journal of a transaction cut short too
            shutil.copy(path, folder)
        try:
            ledger = Ledger.open(Study(Path(folder)))
        except StudyError:  # killed while it was made
            return None
        trials = ledger.trials()
        found = {t.number: Recorded(t.values, ended=t.status != "running") for t in trials}
        return Record(ledger.recipe, found)


def faults_between(before: Look, after: Look) -> Iterator[str]:
    """What a command did to what was there: `kind: where: what`."""
    for name, old in before.runs.items():
        new = after.runs.get(name)
        if new is None:
            yield f"lost: {name}: its folder is gone"
        elif old.summary is not None:
            pairs = (("config.json", old.config, new.config), ("metrics.csv", old.lines, new.lines))
            for file, was, now in (*pairs, ("summary.json", old.summary, new.summary)):
                if was != now:
                    yield f"changed: {name}: {file} of a finished run was written again"
        elif new.lines[: len(old.lines)] != old.lines:
            yield f"lost: {name}: {len(old.lines)} epochs became {len(new.lines)} other ones"
    for name, record in before.records.items():
        now_recorded = after.records[name].trials if name in after.records else {}
        for number, trial in record.trials.items():
            if number not in now_recorded:
                yield f"lost: {name or 'search'}: trial {number} is not in the record any more"
            elif now_recorded[number].values != trial.values:
                yield f"changed: {name or 'search'}: trial {number} has other values"


def faults_in(study: Look, *, ended: bool) -> Iterator[str]:
    """Where records, folders and curves do not agree; `ended` asks that nothing is unfinished."""
    for name, record in study.records.items():
        yield from _record_faults(study, name, record, ended=ended)
    for name, run in study.runs.items():
        yield from _run_faults(study, name, run)
        if ended and run.summary is None and not _is_superseded(study, name):
            yield f"unfinished: {name}: has no summary.json"


def _is_superseded(study: Look, name: str) -> bool:
    """Whether a run repeats a trial that was a candidate once and is none at the end.

    `tune` ends with its own candidates; without it, the refinement of the last round does.
    """
    trial, repeat, _ = name.partition("-seed-")
    ends = [file for file in study.documents if file.rpartition("/")[2] == "refine.json"]
    last = study.documents.get("tune.json") or study.documents.get(max(ends, default=""))
    if not repeat or last is None:
        return False
    return not any(f"/{trial}/config.json" in one["config"] for one in last["candidates"])


def _record_faults(study: Look, name: str, record: Record, *, ended: bool) -> Iterator[str]:
    where = name or "search"
    missing = set(range(len(record.trials))) - record.trials.keys()
    yield from (f"lost: {where}: trial {number} has no record" for number in sorted(missing))
    drawn: dict[str, int] = {}
    for number, trial in record.trials.items():
        folder = f"{name}/" * bool(name) + f"trial-{number:04d}"
        if trial.ended and study.runs.get(folder, RunFiles()).summary is None:
            yield f"lost: {folder}: ended in the record and has no summary.json"
        if ended and not trial.ended:
            yield f"unfinished: {folder}: is running in the record"
        other = drawn.setdefault(json.dumps(dict(trial.values), sort_keys=True), number)
        if other != number:
            yield f"doubled: {where}: trials {other} and {number} have the same values"
        wanted = drawn_values(record.recipe, name, number)
        if wanted is not None and wanted != dict(trial.values):
            yield f"changed: {folder}: its values do not follow from seed and slot"


def drawn_values(recipe: Recipe, name: str, slot: int) -> dict[str, Value] | None:
    """What seed and slot say; None for the first trial of a refinement, which repeats the best."""
    if not name:
        return draw(recipe.space, seed=recipe.seed, slot=slot)
    seed = derive_seed(recipe.seed, "refine", int(name.rpartition("-")[2]))
    return draw(recipe.space, seed=seed, slot=slot) if slot else None


def _run_faults(study: Look, name: str, run: RunFiles) -> Iterator[str]:
    match = RUN.fullmatch(name)
    if match is None:
        yield f"no record: {name}: no run has such a name"
        return
    round_, number, extra = match[1] or "", int(match[2]), int(match[3] or 0)
    record = study.records.get(round_)
    trial = record.trials.get(number) if record else None
    if record is None or trial is None:
        yield f"no record: {name}: trial {number} is not in the record"
        return
    if run.config:
        flat = flatten(run.config)
        values = {**trial.values, "seed": record.recipe.seed + extra}
        differing = [key for key, value in values.items() if flat.get(key) != value]
        if differing:
            yield f"changed: {name}: config.json and record differ in {', '.join(differing)}"
    epochs = [line.split(",")[0] for line in run.lines]
    if epochs != [str(epoch) for epoch in range(1, len(epochs) + 1)]:
        yield f"doubled: {name}: the epochs of metrics.csv are {', '.join(epochs)}"
    if any(len(line.split(",")) != len(COLUMNS) for line in run.lines):
        yield f"changed: {name}: metrics.csv has a torn line inside"
    summary = json.loads(run.summary) if run.summary else None
    if summary and summary["status"] == "failed":
        yield f"failed: {name}: {summary['error']}"
    elif summary and summary["epochs"] != len(epochs):
        yield f"lost: {name}: {len(epochs)} epochs logged, {summary['epochs']} in its summary"


def differences(found: Look, wanted: Look) -> Iterator[str]:
    """Where a study is another than the one that nobody disturbed."""
    yield from (f"lost: {name}" for name in sorted(wanted.runs.keys() - found.runs.keys()))
    yield from (f"doubled: {name}" for name in sorted(found.runs.keys() - wanted.runs.keys()))
    for name in sorted(found.runs.keys() & wanted.runs.keys()):
        parts = ("summary", "curve", "config")
        pairs = zip(parts, found.runs[name].result, wanted.runs[name].result, strict=True)
        for part, got, expected in pairs:
            if got != expected:
                yield f"unlike: {name}: another {part} than in the undisturbed study"
    if found.records != wanted.records:
        yield "unlike: another record than in the undisturbed study"
    for name in sorted(wanted.documents.keys() | found.documents.keys()):
        one, other = (without_times(each.documents.get(name)) for each in (found, wanted))
        if one != other:
            yield f"unlike: {name}: {first_difference(one, other)}"


def first_difference(found: Any, wanted: Any, where: str = "") -> str:
    """Where two documents differ first, and in what."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        return first_difference(found.get(keys[0]), wanted.get(keys[0]), f"{where} {keys[0]}")
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        place = next(i for i, one in enumerate(found) if one != wanted[i])
        return first_difference(found[place], wanted[place], f"{where} {place}")
    got, expected = (
        f"{len(each)} entries" if isinstance(each, list) else repr(each) for each in (found, wanted)
    )
    return f"{where.strip()} is {got} and not {expected}"


def without_times(document: Any) -> Any:
    """The document without its seconds, at any depth."""
    if isinstance(document, dict):
        return {k: without_times(value) for k, value in document.items() if k not in TIMES}
    if isinstance(document, list):
        return [without_times(value) for value in document]
    return document
