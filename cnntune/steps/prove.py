"""Whether the advice of a diagnosis works: each change against an unchanged control, over seeds.

Each prescribed change is trained alone, and so is the unchanged recipe, with the same fresh seeds.
A change and its control differ in nothing else: the same initial weights, the same order of batches
and the same images. Their accuracies are therefore compared in pairs.
"""

import math
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from cnntune.config.recipe import Recipe
from cnntune.config.space import Choice
from cnntune.diagnosis.advice import Prescription
from cnntune.diagnosis.proven import RECORD, Comparison, Proof, Result, Start, study_of
from cnntune.diagnosis.rules import Diagnosis, Label
from cnntune.errors import StudyError
from cnntune.findings import Finding, Severity
from cnntune.machine.clock import NEVER, Deadline
from cnntune.runs.files import FORMAT, locked
from cnntune.runs.run import Run, best_epoch
from cnntune.runs.study import PROOFS, Study
from cnntune.steps.rivals import last_known_round
from cnntune.steps.winner import quantile
from cnntune.texts import counted
from cnntune.training import checkpoint
from cnntune.training.open_recipe import allows
from cnntune.workers.pool import Event, Job, in_order, run_jobs

SEEDS = 3  # as for the best trials of a study
MIN_PAIRS = 2  # seeds; one difference has no spread
MIN_EPOCHS = 3  # left after a checkpoint: fewer give no curve to judge
RECORD_LOCK = ".prove.lock"  # of prove.json, which proofs of several runs may write at once
TENFOLD = 10.0  # the step of the lecture's coarse search for a learning rate, 1e-1 ... 1e-5
CONTROL = "control"

# Keys that change nothing of a network or an optimizer that a checkpoint holds, and that still act
# after the first epoch: a warm-up does not.
CONTINUES = (
    "augment.",
    "model.dropout",
    "train.epochs",
    "train.grad_clip",
    "train.label_smoothing",
    "train.lr",
    "train.schedule",
    "train.weight_decay",
)


@dataclass(frozen=True)
class Experiment:
    """What is trained to prove the advice for `run`, whose recipe is `recipe`.

    `checkpoint` is the epoch of the state that runs continue from, None where there is none.
    """

    run: Run
    recipe: Recipe
    label: Label
    cures: tuple[Prescription, ...]
    seeds: tuple[int, ...]
    checkpoint: int | None

    @property
    def study(self) -> Study:
        """The study that the run belongs to."""
        return Study(study_of(self.run.path))

    @property
    def folder(self) -> Path:
        """The folder of its runs, `prove/trial-0007` in the study."""
        return self.study.path / PROOFS / self.run.name.replace("/", "-")

    @property
    def searched(self) -> Recipe:
        """The recipe with the values that are compared as its space, to plan and to show runs."""
        space = {
            key: Choice((self.recipe.get(key), *(c.after for c in self.cures if c.key == key)))
            for key in dict.fromkeys(one.key for one in self.cures)
        }
        return self.recipe.model_copy(update={"space": space})

    def arms(self) -> "list[Arm]":
        """Control and changes from each start; the checkpoint first, since those runs are short."""
        starts: tuple[Start, ...] = get_args(Start)
        return [
            Arm(self, start, cure)
            for start in reversed(starts)
            if (cures := [one for one in self.cures if self._reaches(start, one)])
            for cure in (None, *cures)
        ]

    def _reaches(self, start: Start, cure: Prescription) -> bool:
        """Whether the change can be made at that start, with epochs left for it to act."""
        if start == "beginning":
            return True
        if self.checkpoint is None or not cure.key.startswith(CONTINUES):
            return False
        return self.recipe.train.epochs - self.checkpoint >= MIN_EPOCHS


@dataclass(frozen=True)
class Arm:
    """The control of an experiment, where `cure` is None, or one change, from one start."""

    experiment: Experiment
    start: Start
    cure: Prescription | None

    @property
    def recipe(self) -> Recipe:
        """What is trained, but for the seed."""
        changed = {self.cure.key: self.cure.after} if self.cure else {}
        return self.experiment.recipe.with_values(changed)

    def run(self, seed: int) -> Run:
        """The folder of one run, `beginning-train.lr=0.003-seed-1`."""
        name = f"{self.cure.key}={self.cure.after}" if self.cure else CONTROL
        return Run(self.experiment.folder / f"{self.start}-{name}-seed-{seed}")

    def job(self, seed: int, number: int) -> Job:
        """One run as a job of the workers."""
        kept = kept_checkpoint(self.experiment.folder) if self.start == "checkpoint" else None
        recipe = self.recipe.with_values({"seed": seed})
        return Job(number, recipe, self.run(seed).path, continues=kept)

    def accuracy(self, seed: int) -> float | None:
        """The best validation accuracy of a run after its start; None where it is not trained.

        A diverged network is worth a guess.
        """
        run = self.run(seed)
        summary = run.summary() or {}
        if summary.get("status") == "diverged":
            return float(summary.get("chance_acc") or 0.0)
        first = (self.experiment.checkpoint or 0) if self.start == "checkpoint" else 0
        best = best_epoch([row for row in run.rows() if row.epoch > first])
        return best.val_acc if best and summary.get("status") == "complete" else None


def design(
    run: Run,
    recipe: Recipe,
    diagnosis: Diagnosis,
    seeds: Sequence[int],
) -> Experiment:
    """The experiment for a diagnosed run; it has no `cures` where the advice changes no key.

    `recipe` is the recipe of the run. Fewer epochs are no cure: they save time, and gain nothing.
    Where nothing was learned and the advice is to look for a learning rate, one tenfold higher and
    one tenfold lower are tried. A checkpoint of the run is copied, since a search that finishes the
    run removes it.
    """
    whole = recipe.for_run()
    prescribed = diagnosis.prescriptions
    if not prescribed and diagnosis.label == "underfitting":
        prescribed = _learning_rates(whole)
    cures = tuple(
        one
        for one in prescribed
        if not (one.key == "train.epochs" and one.after < one.before)
        and allows(whole, one.key, one.after)
    )
    experiment = Experiment(run, whole, diagnosis.label, cures, tuple(seeds), None)
    if not cures:
        return experiment
    return replace(experiment, checkpoint=_checkpoint_epoch(run, experiment.folder))


def _learning_rates(recipe: Recipe) -> list[Prescription]:
    lr = recipe.train.lr
    return [
        Prescription(
            "train.lr", lr, float(f"{lr * factor:.3g}"), f"{verb} the learning rate tenfold"
        )
        for factor, verb in ((TENFOLD, "raise"), (1 / TENFOLD, "lower"))
    ]


def kept_checkpoint(folder: Path) -> Path:
    """The copy of the checkpoint that runs continue from."""
    return folder / "checkpoint.pt"


def _checkpoint_epoch(run: Run, folder: Path) -> int | None:
    """The epoch of the run's checkpoint, which is copied once; None where there is none."""
    kept = kept_checkpoint(folder)
    if not kept.exists() and run.checkpoint.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(".draft")
        shutil.copyfile(run.checkpoint, draft)
        draft.replace(kept)
    found = checkpoint.load(kept)
    return len(found[1]) if found else None


def to_train(experiment: Experiment) -> list[Job]:
    """The runs that are not trained yet, the first seed of all arms first."""
    jobs: list[Job] = []
    for seed in experiment.seeds:
        for arm in experiment.arms():
            ended = (arm.run(seed).summary() or {}).get("status")
            if ended not in ("complete", "diverged"):
                jobs.append(arm.job(seed, len(jobs)))
    return jobs


def prove(
    experiment: Experiment,
    jobs: Sequence[Job],
    *,
    values: Mapping[str, Any],
    workers: int,
    places: Sequence[str],
    deadline: Deadline = NEVER,
) -> Iterator[Event]:
    """Train the runs until the deadline; `values` are what all of them share on this machine.

    Raises:
        StudyError: where another process proves the same run, or nothing can be written.
    """
    settled = [replace(job, recipe=job.recipe.with_values(values)) for job in jobs]
    with locked(experiment.folder) as ours:
        if not ours:
            raise StudyError(f"{experiment.folder}: another cnntune process proves this run; wait")
        yield from run_jobs(in_order(settled), workers=workers, devices=places, deadline=deadline)


def result(experiment: Experiment) -> Proof:
    """What the runs of an experiment show so far."""
    arms = experiment.arms()
    controls = {arm.start: arm for arm in arms if arm.cure is None}
    compared = [_compared(arm, controls[arm.start]) for arm in arms if arm.cure]
    order = [one.key for one in experiment.cures]
    return Proof(
        run=experiment.run.name,
        label=experiment.label,
        seeds=list(experiment.seeds),
        checkpoint=experiment.checkpoint,
        after_round=last_known_round(experiment.study),
        complete=not to_train(experiment),
        comparisons=sorted(compared, key=lambda one: (one.start, order.index(one.key))),
    )


def _compared(arm: Arm, control: Arm) -> Comparison:
    cure, seeds = arm.cure, arm.experiment.seeds
    assert cure is not None
    pairs = [
        (before, after)
        for seed in seeds
        if (before := control.accuracy(seed)) is not None
        and (after := arm.accuracy(seed)) is not None
    ]
    summaries = [arm.run(seed).summary() or {} for seed in seeds]
    images = next((one["val_images"] for one in summaries if one.get("val_images")), None)
    mean, low, high = paired([after - before for before, after in pairs], val_images=images)
    return Comparison(
        key=cure.key,
        before=cure.before,
        after=cure.after,
        advice=cure.line,
        start=arm.start,
        epochs=arm.recipe.train.epochs,
        control=[before for before, _ in pairs],
        changed=[after for _, after in pairs],
        diverged=sum(one.get("status") == "diverged" for one in summaries),
        failed=sum(one.get("status") == "failed" for one in summaries),
        mean=mean,
        low=low,
        high=high,
        result=_verdict(low, high),
    )


def paired(
    differences: Sequence[float], *, val_images: int | None = None
) -> tuple[float | None, float | None, float | None]:
    """The mean of paired differences and its 95 % interval by Student's t; None for fewer than two.

    The standard deviation is at least 1 / `val_images`, the resolution of an accuracy: differences
    that are equal by chance would otherwise have an interval of no width.
    """
    if len(differences) < MIN_PAIRS:
        return None, None, None
    mean = statistics.fmean(differences)
    spread = max(statistics.stdev(differences), 1 / val_images if val_images else 0.0)
    half = quantile(len(differences) - 1) * spread / math.sqrt(len(differences))
    return mean, mean - half, mean + half


def _verdict(low: float | None, high: float | None) -> Result:
    if low is None or high is None:
        return "not-trained"
    return "works" if low > 0 else "harms" if high < 0 else "unproven"


def store(study: Study, proof: Proof) -> None:
    """Keep a proof in the study's `prove.json`, in place of an earlier one of the same run.

    Raises:
        StudyError: where the file is damaged, or nothing can be written.
    """
    with locked(study.path, RECORD_LOCK, waiting=lambda: None):
        entries = (study.read(RECORD) or {}).get("proofs") or []
        others = [entry for entry in entries if entry.get("run") != proof.run]
        study.write(RECORD, {"format": FORMAT, "proofs": [*others, proof.as_json()]})


def findings(proof: Proof, where: str) -> list[Finding]:
    """A finding for each comparison, and one for runs that are left to train."""
    found = [_finding(one, where) for one in proof.comparisons]
    if proof.complete:
        return found
    text = "some runs of this proof are not trained, or failed"
    return [
        *found,
        Finding("proof", "warn", text, "run the same command again to train them", where=where),
    ]


def _finding(compared: Comparison, where: str) -> Finding:
    severity: Severity = "ok" if compared.result == "works" else "info"
    if compared.result == "not-trained":
        text = f"{compared.change}: {counted(len(compared.control), 'pair')} of runs, too few"
        text += f" to compare ({counted(compared.failed, 'run')} failed)" if compared.failed else ""
        return Finding("proof", "warn", text, where=where)
    advice = {
        "works": "keep this change",
        "harms": "leave this key as it is",
        "unproven": "",
    }[compared.result]
    text = f"{compared.change}: {compared.gain}"
    if compared.result == "unproven":
        text += ", which may be chance"
    if compared.diverged:
        text += f"; {compared.diverged} of the changed runs diverged"
    return Finding("proof", severity, text, advice, where, measured=compared.mean, expected=0.0)


def nothing_to_prove(diagnosis: Diagnosis, where: str) -> Finding:
    """That the advice changes no key of the recipe, so that there is nothing to train."""
    text = f"nothing to prove: the advice for {diagnosis.label} changes no key of the recipe"
    return Finding("proof", "info", text, "; ".join(diagnosis.advice), where=where)


def size(experiment: Experiment, jobs: Sequence[Job]) -> str:
    """What will be trained, in a line."""
    epochs = sum(
        job.recipe.train.epochs - ((experiment.checkpoint or 0) if job.continues else 0)
        for job in jobs
    )
    seeds = ", ".join(map(str, experiment.seeds))
    starts = "from the beginning"
    if any(arm.start == "checkpoint" for arm in experiment.arms()):
        starts = f"from epoch {experiment.checkpoint} and {starts}"
    return (
        f"proving {counted(len(experiment.cures), 'change')} against a control, seeds {seeds},"
        f" {starts}: {counted(len(jobs), 'run')}, {counted(epochs, 'epoch')}"
    )
