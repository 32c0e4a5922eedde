"""Optuna's studies: a trial whose script reports values while it trains is a run.

Optuna stores such values without a name. They are those of the objective, so the direction of the
study says what they are: what is minimized is taken for a validation loss, what is maximized for a
validation accuracy, where it is a fraction or a percentage.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnntune.diagnosis.logs import database
from cnntune.diagnosis.logs.cells import as_number
from cnntune.diagnosis.logs.record import MAX_POINTS, Point, Record, UnreadableLogError

TABLES = ("studies", "study_directions", "trials", "trial_intermediate_values")
QUERY = """
    SELECT s.study_name, d.direction, t.number, v.step, v.intermediate_value,
           v.intermediate_value_type
    FROM trials AS t
    JOIN studies AS s ON s.study_id = t.study_id
    JOIN study_directions AS d ON d.study_id = s.study_id AND d.objective = 0
    LEFT JOIN trial_intermediate_values AS v ON v.trial_id = t.trial_id
    ORDER BY s.study_id, t.number, v.step
"""
NOT_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}

# Operations of a journal file, a JSON object per line.
CREATE_STUDY, CREATE_TRIAL, REPORT = 0, 4, 7
DIRECTIONS = {1: "MINIMIZE", 2: "MAXIMIZE"}

MAX_PERCENTAGE = 100.0
NO_VALUES = "an Optuna study without intermediate values: log them with trial.report(value, step)"
NOT_A_FRACTION = (
    "an Optuna study that maximizes a value that is no fraction or percentage: it is neither a loss"
    " nor an accuracy"
)


@dataclass
class _Trial:
    """A trial with the direction of its study, and the values that it reported."""

    study: str
    direction: str
    number: int
    points: list[Point] = field(default_factory=list)


def read_database(path: Path) -> list[Record]:
    """The trials in the database of a study; empty for any other database.

    Raises:
        UnreadableLogError: where it is damaged, or the values of no trial are a curve.
    """
    rows = database.rows(path, TABLES, QUERY)
    if not rows:
        return []
    trials: dict[tuple[str, int], _Trial] = {}
    for study, direction, number, step, value, kind in rows:
        if not isinstance(number, int):
            continue
        key = str(study), number
        trial = trials.setdefault(key, _Trial(str(study), str(direction), number))
        if (point := _point(step, value, kind)) is not None:
            trial.points.append(point)
    return _records(trials.values())


def _point(step: object, value: object, kind: object) -> Point | None:
    if not isinstance(step, int | float):
        return None
    if str(kind) in NOT_FINITE:
        return float(step), NOT_FINITE[str(kind)]
    return (float(step), float(value)) if isinstance(value, int | float) else None


def read_journal(text: str) -> list[Record]:
    """The trials in a journal file; empty for any other text.

    Raises:
        UnreadableLogError: where the values of no trial are a curve.
    """
    if '"op_code"' not in text.partition("\n")[0]:
        return []
    studies: list[tuple[str, str]] = []
    trials: list[_Trial] = []
    of_study: dict[int, int] = {}
    for entry in _entries(text):
        operation = entry.get("op_code")
        if operation == CREATE_STUDY:
            directions = entry.get("directions")
            first = directions[0] if isinstance(directions, list) and directions else None
            known = DIRECTIONS.get(first, "") if isinstance(first, int) else ""
            studies.append((str(entry.get("study_name", "")), known))
        elif operation == CREATE_TRIAL:
            study = _index(entry.get("study_id"), len(studies))
            name, direction = studies[study] if study is not None else ("", "")
            number = of_study.get(study or 0, 0)
            of_study[study or 0] = number + 1
            trials.append(_Trial(name, direction, number))
        elif operation == REPORT:
            trial = _index(entry.get("trial_id"), len(trials))
            step, value = as_number(entry.get("step")), as_number(entry.get("intermediate_value"))
            if trial is not None and step is not None and value is not None:
                trials[trial].points.append((step, value))
    return _records(trials) if trials else []


def _entries(text: str) -> Iterable[Mapping[str, Any]]:
    """The objects of the lines; a line that is none, as a truncated one, is skipped."""
    for count, line in enumerate(text.split("\n")):
        if count > MAX_POINTS:
            return
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, Mapping):
            yield entry


def _index(value: object, length: int) -> int | None:
    return value if isinstance(value, int) and 0 <= value < length else None


def _records(trials: Iterable[_Trial]) -> list[Record]:
    """The trials with values as runs.

    Raises:
        UnreadableLogError: where no trial has values that are a curve.
    """
    reason, found = NO_VALUES, []
    studies = {trial.study for trial in trials}
    for trial in trials:
        points = sorted(
            {step: value for step, value in trial.points if math.isfinite(step)}.items()
        )
        if not points:
            continue
        kind = _kind(trial.direction, [value for _, value in points])
        if not kind:
            reason = NOT_A_FRACTION
            continue
        note = (
            f"what was reported to Optuna is taken for the validation {kind}, since the study"
            f" {trial.direction.lower()}s it"
        )
        name = f"val_{kind}"
        part = f"{trial.study} {trial.number}" if len(studies) > 1 else str(trial.number)
        found.append(Record("optuna", {name: points}, part=part, notes=(note,)))
    if not found:
        raise UnreadableLogError(reason)
    return found


def _kind(direction: str, values: list[float]) -> str:
    if direction == "MINIMIZE":
        return "loss"
    finite = [value for value in values if math.isfinite(value)]
    is_rate = bool(finite) and min(finite) >= 0 and max(finite) <= MAX_PERCENTAGE
    return "accuracy" if direction == "MAXIMIZE" and is_rate else ""
