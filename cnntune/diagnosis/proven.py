"""What `diagnose --prove` has shown in a study: `prove.json`, and the advice that follows."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cnntune.diagnosis.rules import Diagnosis, Label
from cnntune.runs.files import read_whole_json
from cnntune.runs.run import Run
from cnntune.runs.study import home

RECORD = "prove"  # prove.json of a study

Start = Literal["beginning", "checkpoint"]
Result = Literal["works", "harms", "unproven", "not-trained"]


@dataclass(frozen=True)
class Comparison:
    """A change against the unchanged control, from one start, as `prove.json` keeps it.

    `control` and `changed` are validation accuracies in 0..1, one per seed with both runs; that of
    a diverged run is the accuracy of guessing. `mean`, `low` and `high` are their difference and
    its interval, None for fewer than two seeds. `diverged` are the changed runs that did, `failed`
    the seeds without a pair of runs.
    """

    key: str
    before: Any
    after: Any
    advice: str
    start: Start
    epochs: int
    control: list[float]
    changed: list[float]
    diverged: int
    failed: int
    mean: float | None
    low: float | None
    high: float | None
    result: Result

    @property
    def change(self) -> str:
        """`train.weight_decay 0 -> 0.001`."""
        return f"{self.key} {brief(self.before)} -> {brief(self.after)}"

    @property
    def gain(self) -> str:
        """`+2.1 points of validation accuracy [+1.2, +3.0] over 3 seeds`."""
        where = "" if self.start == "beginning" else ", from the checkpoint"
        return (
            f"{points(self.mean)} points of validation accuracy"
            f" [{points(self.low)}, {points(self.high)}] over {len(self.control)} seeds{where}"
        )


@dataclass(frozen=True)
class Proof:
    """The comparisons of one run; `after_round` is the number of its study's last round then.

    `checkpoint` is the epoch that runs continued from, None if they only began from the beginning.
    `complete` is False where runs are left to train.
    """

    run: str
    label: Label
    seeds: list[int]
    checkpoint: int | None
    after_round: int
    complete: bool
    comparisons: list[Comparison]

    @property
    def kept(self) -> list[Comparison]:
        """The changes that work from some start and harm from none, the largest gain first.

        Of a change that works from both starts, the comparison from the beginning counts: other
        runs of the study begin there.
        """
        harmful = {(one.key, one.after) for one in self.comparisons if one.result == "harms"}
        found: dict[str, Comparison] = {}
        # The beginning first, and of two values of a key the better one.
        for one in sorted(self.comparisons, key=lambda one: (one.start, -(one.mean or 0.0))):
            if one.result == "works" and (one.key, one.after) not in harmful:
                found.setdefault(one.key, one)
        return sorted(found.values(), key=lambda one: -(one.mean or 0.0))

    def as_json(self) -> dict[str, Any]:
        """The proof in `prove.json` and in `diagnose --prove --json`."""
        kept = [{"key": one.key, "value": one.after, "start": one.start} for one in self.kept]
        return asdict(self) | {"kept": kept}


def points(share: float | None) -> str:
    """A difference of accuracies as signed percentage points: `+2.1`."""
    return "-" if share is None else f"{100 * share:+.1f}"


def brief(value: Any) -> str:
    """A value of a recipe key in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def proofs_in(study: Path) -> list[Proof]:
    """What was proven in a study; nothing where `prove.json` is missing or damaged.

    Raises:
        StudyError: where a newer cnntune wrote it.
    """
    entries = (read_whole_json(study / f"{RECORD}.json") or {}).get("proofs")
    found = map(_read, entries if isinstance(entries, list) else [])
    return [proof for proof in found if proof is not None]


def _read(entry: Any) -> Proof | None:
    """An entry of `prove.json`; None where an edited file holds something else."""
    try:
        values = {key: entry[key] for key in Proof.__dataclass_fields__}
        values["comparisons"] = [
            Comparison(**{key: one[key] for key in Comparison.__dataclass_fields__})
            for one in entry["comparisons"]
        ]
    except (KeyError, TypeError):
        return None
    return Proof(**values)


def study_of(run: Path) -> Path:
    """The folder of the study that a run belongs to; its parent where no study records it."""
    return home(run / "config.json") or run.parent


def with_proofs(diagnosis: Diagnosis, run: Path, proofs: Iterable[Proof]) -> Diagnosis:
    """The diagnosis of a run, with what was proven in its study on runs with the same label.

    A change that worked is the first advice. What was tried on this very run without a proven gain
    is no advice any more, and is listed last.
    """
    same = [proof for proof in proofs if proof.label == diagnosis.label]
    here = [proof for proof in same if proof.run == Run(run).name]
    prescribed = {one.key: one for one in diagnosis.prescriptions}
    proven: dict[str, str] = {}
    values = {} if here else {one.key: one.after for one in diagnosis.prescriptions}
    for proof in here or same:
        for one in proof.kept:
            if here or (one.key in prescribed and one.start == "beginning"):
                values.setdefault(one.key, one.after)
                line = f"proven here: {one.change} gave {one.gain} ({proof.run})"
                proven.setdefault(one.key, line)
    tried = {one.key for proof in here for one in proof.comparisons if one.result != "not-trained"}
    failed = sorted(tried - proven.keys(), key=[*prescribed, *tried].index)
    if not proven and not failed:
        return diagnosis
    exact = {one.advice for proof in here for one in proof.kept if one.key in proven}
    lines = {key: one.line for key, one in prescribed.items()}
    moved = [lines[key] for key in proven if key in lines and lines[key] not in exact]
    gone = {*exact, *moved, *(lines[key] for key in failed if key in lines)}
    advice = [*proven.values(), *moved, *(line for line in diagnosis.advice if line not in gone)]
    if failed:
        advice.append(f"tried here without a proven gain: {', '.join(failed)}")
    values |= {key: one.after for key, one in prescribed.items() if key not in values}
    ranked = [*proven, *(key for key in prescribed if key not in {*proven, *failed})]
    change = (ranked[0], values[ranked[0]]) if ranked else None
    return replace(diagnosis, advice=advice, change=change)
