"""`cnntune.diagnose`: learning curves from Python, judged as `cnntune diagnose` judges them."""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cnntune.api import histories, html
from cnntune.api.result import Result, document_of
from cnntune.api.words import in_python, python_errors
from cnntune.cli.screen import Screen
from cnntune.diagnosis import judge
from cnntune.diagnosis.judge import JudgedRun
from cnntune.diagnosis.load_runs import Skipped
from cnntune.diagnosis.rules import Diagnosis, Label
from cnntune.errors import DataError
from cnntune.texts import counted

CURVES = ("train_loss", "val_loss", "train_acc", "val_acc")
NEAR = 0.75  # of difflib's similarity: one or two letters of a word


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosed(Result):
    """The diagnosis of one run or of several; `runs` has each with its curve, worst label first.

    `label`, `confidence`, `evidence` and the other properties are those of the first run.
    """

    runs: Sequence[JudgedRun]

    @property
    def diagnosis(self) -> Diagnosis:
        """The diagnosis of the first run."""
        return self.runs[0].diagnosis

    @property
    def label(self) -> Label:
        """What the curves show, in a word."""
        return self.diagnosis.label

    @property
    def also(self) -> list[Label]:
        """Labels that would be acceptable too."""
        return self.diagnosis.also

    @property
    def confidence(self) -> float:
        """The confidence in the label, in 0..1."""
        return self.diagnosis.confidence

    @property
    def evidence(self) -> str:
        """The numbers behind the label."""
        return self.diagnosis.evidence

    @property
    def advice(self) -> list[str]:
        """What to change, the first one first."""
        return self.diagnosis.advice

    @property
    def flags(self) -> list[str]:
        """Secondary signs of the curves."""
        return self.diagnosis.flags

    @property
    def epochs(self) -> int:
        """The number of points of the curve: epochs, or evaluations where there are fewer."""
        return self.diagnosis.epochs

    @property
    def last_epoch(self) -> float | None:
        """The epoch of the last point."""
        return self.diagnosis.last_epoch

    @property
    def unit(self) -> str:
        """What `best_epoch` and `last_epoch` count: `epoch`, or `step` where no epoch is logged."""
        return self.diagnosis.unit

    @property
    def best_epoch(self) -> float | None:
        """The epoch of the lowest validation loss, else of the highest validation accuracy."""
        return self.diagnosis.best_epoch


def diagnose(
    history: Any = None,
    *,
    names: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    fail_on: Collection[str] = (),
    **curves: Any,
) -> Diagnosed:
    """Diagnose learning curves: still improving, overfitting, underfitting, unstable, converged.

    `history` is a dict of lists, a list of dicts, a pandas or polars DataFrame, the history of
    Keras, Lightning (CSVLogger), Transformers (a Trainer, its state or its `log_history`), skorch
    or fastai, a path to runs or logs, or an array [epochs, curves] with `names` for its columns.
    Left out, each curve is a keyword: `diagnose(train_loss=[...], val_loss=[...])`. Of several
    consecutive runs in a history the last is diagnosed; of a path, all runs.

    `columns` names the column of a curve where its name is not clear (`{"val_loss": "my_loss"}`),
    as `--map` does; `fail_on` lists labels that make the result fail, as `--fail-on` does.
    Nothing that is given is changed.

    Raises:
        TypeError: where a keyword is a misspelt one.
        DataError: where no column is a loss or an accuracy, or a path cannot be read.
        RecipeError: where `columns` or `fail_on` name an unknown curve or label.
    """
    _check_keywords(curves)
    with python_errors():
        mapping = judge.parse_mapping(f"{curve}={name}" for curve, name in (columns or {}).items())
        labels = judge.parse_labels([fail_on] if isinstance(fail_on, str) else fail_on)
        judged, skipped = _judged(history, names, mapping, curves)
    judged = [_in_python(run) for run in judged]
    if history is None:
        _check_used(curves, judged[0])
    findings = [run.finding(labels) for run in judged]
    document = document_of(
        "diagnose", findings, runs=[run.as_json() for run in judged], skipped=skipped
    )
    pieces: list[Callable[[], str]] = [partial(_shown, run) for run in judged]
    return Diagnosed(findings, document, partial(_draw, judged, skipped), pieces, judged)


def _check_keywords(curves: Mapping[str, Any]) -> None:
    """Check that no keyword is an argument of `diagnose` with a slip.

    Raises:
        TypeError: where one is; it names the argument.
    """
    arguments = ("history", "names", "columns", "fail_on")
    for name in curves:
        if near := difflib.get_close_matches(name, arguments, n=1, cutoff=NEAR):
            raise TypeError(_unexpected(name, near[0]))


def _check_used(curves: Mapping[str, Any], run: JudgedRun) -> None:
    """Check that no keyword that was left out is a curve's name with a slip.

    Raises:
        TypeError: where one is; it names the curve.
    """
    used = set(run.run.columns.values())
    left = [curve for curve in CURVES if curve not in run.run.columns]
    for name in curves.keys() - used:
        if near := difflib.get_close_matches(name, left, n=1, cutoff=NEAR):
            raise TypeError(_unexpected(name, near[0]))


def _unexpected(name: str, near: str) -> str:
    return f"diagnose() got an unexpected keyword argument {name!r}; did you mean {near!r}?"


def _in_python(run: JudgedRun) -> JudgedRun:
    """The run with evidence, advice and notes in the words of Python."""
    diagnosis = replace(
        run.diagnosis,
        evidence=in_python(run.diagnosis.evidence),
        advice=[in_python(line) for line in run.diagnosis.advice],
    )
    notes = tuple(in_python(note) for note in run.run.notes)
    return replace(run, run=replace(run.run, notes=notes), diagnosis=diagnosis)


def _judged(
    history: Any,
    names: Sequence[str] | None,
    mapping: Mapping[str, str],
    curves: Mapping[str, Any],
) -> tuple[list[JudgedRun], list[Skipped]]:
    if history is None and not curves:
        raise DataError("diagnose: needs a history, a path, or curves by keyword")
    if curves or names is not None or histories.is_array(history):
        history = histories.columns_of(history, names, curves)
    history = histories.plain(history)
    if isinstance(history, Path):
        return judge.judge_paths([history], mapping)
    return [judge.judge_history(histories.renamed(history, mapping))], []


def _draw(judged: Sequence[JudgedRun], skipped: Sequence[Skipped], screen: Screen) -> None:
    screen.diagnoses(judged)
    for remark in judge.remarks(judged):
        screen.text(remark)
    for entry in skipped:
        screen.text(f"skipped {entry['path']}: {entry['reason']}")


def _shown(run: JudgedRun) -> str:
    """A run in a notebook: its curves, then evidence and advice."""
    diagnosis = run.diagnosis
    unit, last = diagnosis.unit, diagnosis.last_epoch
    length = f"{unit} {last:g}" if last is not None else counted(diagnosis.epochs, unit)
    epochs = f"up to {length}, confidence {diagnosis.confidence:.0%}"
    return "".join(
        (
            html.heading(diagnosis.label, f"{run.path} · {epochs}"),
            html.curves(run.curve, diagnosis.best_epoch),
            html.finding(run.finding(), diagnosis.advice),
            *map(html.note, run.run.notes),
            html.code(run.command) if run.command else "",
        )
    )
