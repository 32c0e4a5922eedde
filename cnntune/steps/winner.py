"""The best trial of a study: the only module that decides it.

The best three trials of the search and its refinements, by validation accuracy, are trained again
with fresh seeds. Only the fresh seeds are compared: the accuracy by which a trial was selected is
the best of many, and therefore too high.

The comparison is about seeds, for these validation images. How far another sample of as many images
would move an accuracy is reported beside it (`image_error`). Error rates:
benchmarks/search/winner_error_rates.py.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cnntune.config.recipe import Recipe
from cnntune.config.space import Value
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.runs.run import Run, best_epoch, score_of
from cnntune.runs.study import Study
from cnntune.runs.summary import RESULTS, Summary, summarise
from cnntune.steps.search_findings import nothing_learned
from cnntune.study.ledger import Ledger, begun
from cnntune.study.noise import image_error
from cnntune.study.trial import Trial, ranked

CANDIDATES = 3  # trained again, to see whether the first one was best by chance
TWO_SIDED = 0.975  # quantile of a two-sided interval of 95 %
# Quantile of the test between two candidates. A level of 4 % and not 5 %, since Welch's test of
# three seeds exceeds its level by up to an eighth where spreads differ threefold
# (benchmarks/search/winner_error_rates.py).
WINS = 0.98


@dataclass(frozen=True)
class Rival:
    """A trial of a round, with the recipe of the round.

    `cut` marks a trial that ran out of time: it counts by the best of its completed epochs, and its
    repeats train all epochs.
    """

    trial: Trial
    recipe: Recipe
    cut: bool = False

    @property
    def study(self) -> Study:
        """The folder of the trial's round."""
        return Study(self.trial.run.path.parent)

    @property
    def name(self) -> str:
        """`trial-0003`, or `refine-1/trial-0003`."""
        return self.trial.run.name

    def repeats(self, seeds: int) -> list[tuple[int, Run]]:
        """The offset of each repeat's seed from the recipe's, and its folder."""
        name = self.trial.run.path.name
        return [(more, self.study.run(f"{name}-seed-{more}")) for more in range(1, seeds + 1)]


def rounds(study: Study) -> list[Study]:
    """The refinements of a study, `refine-1` first."""
    found = [path for path in study.path.glob("refine-*") if path.name[7:].isdigit()]
    return [Study(path) for path in sorted(found, key=lambda path: int(path.name[7:]))]


def number_of(part: Study) -> int:
    """2 for `refine-2`, 0 for the search itself."""
    number = part.path.name.rpartition("refine-")[2]
    return int(number) if number.isdigit() and part.path.name.startswith("refine-") else 0


def last_known_round(study: Study) -> int:
    """The highest number of a round in the study's folder or in its `tune.json`."""
    record = study.read("tune") or {}
    found = [number_of(part) for part in rounds(study)]
    folders = [Path(str(one.get("config"))).parent.parent for one in record.get("candidates") or []]
    return max([0, *found, int(record.get("rounds") or 0), *(number_of(Study(f)) for f in folders)])


def lost_rounds(study: Study) -> list[Finding]:
    """A finding if the folder or the record of a round is missing.

    Numbers of later rounds, folders of trials and `tune.json` show that the round existed.
    """
    present = {
        number_of(part)
        for part in rounds(study)
        if begun(part) is not None or not any(part.path.glob("trial-*"))
    }
    lost = [n for n in range(1, last_known_round(study) + 1) if n not in present]
    if not lost:
        return []
    names = ", ".join(f"refine-{number}" for number in lost)
    return [
        Finding(
            "missing-files",
            "warn",
            f"{names} of this study {'are' if len(lost) > 1 else 'is'} missing, or without a"
            " study.db: their trials are ignored",
            "restore the folders from a copy",
            where=str(study.path),
            measured=len(lost),
        )
    ]


def ledgers(study: Study) -> list[Ledger]:
    """The records of the search and its refinements, finished or not, in order."""
    return [ledger for part in [study, *rounds(study)] if (ledger := begun(part)) is not None]


def pool(records: Sequence[Ledger]) -> list[Rival]:
    """All trials of a study's rounds, those of the last round first.

    The order only decides between equal trials: those of later rounds, with better spaces, come
    first.
    """
    found: list[Rival] = []
    for ledger in records:
        recipe = ledger.recipe
        found = [*(rival_of(trial, recipe) for trial in ledger.trials()), *found]
    return found


def rival_of(trial: Trial, recipe: Recipe) -> Rival:
    """A trial of a round with that recipe; an unfinished one counts by its curve so far."""
    rows = trial.run.rows() if trial.status == "running" else []
    if best_epoch(rows) is None:
        return Rival(trial, recipe)
    return Rival(replace(trial, summary=summarise(rows)), recipe, cut=True)


def best_rivals(rivals: Sequence[Rival]) -> list[Rival]:
    """The best three trials that were not pruned, by validation accuracy, then loss.

    Accuracies count the same, whatever the number of epochs. A round may train the best trial of an
    earlier one again; of trials with the same configuration only the earliest is included, since
    its repeats may be trained already. Empty if no trial has learned anything.
    """
    if nothing_learned([rival.trial for rival in rivals]):
        return []
    by_folder = {rival.trial.run.path: rival for rival in rivals}
    best = ranked([rival.trial for rival in rivals])
    earliest = _earliest_of_each_configuration([t.run for t in best])
    return [
        by_folder[t.run.path] for t in best if t.status == "complete" and t.run.path in earliest
    ][:CANDIDATES]


def _earliest_of_each_configuration(runs: Sequence[Run]) -> set[Path]:
    """The folders of these runs, without those that repeat the configuration of an earlier one."""
    found: dict[str, Path] = {}
    for run in sorted(runs, key=lambda run: (number_of(Study(run.path.parent)), run.path.name)):
        try:
            config = run.config()
        except StudyError:  # a newer cnntune wrote it
            config = {}
        found.setdefault(json.dumps(config, sort_keys=True) if config else str(run.path), run.path)
    return set(found.values())


def val_images(rivals: Sequence[Rival]) -> int | None:
    """The number of validation images of the rivals; None if none of them records it."""
    counts = (rival.trial.summary.val_images for rival in rivals)
    return next((int(count) for count in counts if count), None)


@dataclass(frozen=True)
class Candidate:
    """One of the best trials and the results of its fresh seeds. Accuracies are in 0..1."""

    rival: Rival
    asked: int  # planned fresh seeds
    val_accs: list[float] = field(default_factory=list)  # of completed seeds; see `score_of`
    diverged: int = 0  # seeds
    failed: int = 0  # seeds, which do not count against the trial

    @property
    def number(self) -> int:
        """The trial's number in its round."""
        return self.rival.trial.number

    @property
    def name(self) -> str:
        """`trial-0003`, or `refine-1/trial-0003`."""
        return self.rival.name

    @property
    def values(self) -> dict[str, Value]:
        """The values drawn for the trial."""
        return self.rival.trial.values

    @property
    def config(self) -> Path:
        """The recipe of the trial, as `cnntune train` accepts it."""
        return self.rival.trial.run.path / "config.json"

    @property
    def selected_acc(self) -> float:
        """The accuracy by which it was selected; biased upwards."""
        return self.rival.trial.score

    @property
    def parameters(self) -> int | None:
        """The parameters of its network; None in a study that does not record them."""
        return self.rival.trial.summary.parameters

    @property
    def missing(self) -> int:
        """The number of seeds that are not trained."""
        return self.asked - len(self.val_accs) - self.diverged - self.failed

    @property
    def mean(self) -> float | None:
        """Mean validation accuracy over the fresh seeds; None if there is none."""
        return statistics.fmean(self.val_accs) if self.val_accs else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over the fresh seeds; None for fewer than two."""
        return statistics.stdev(self.val_accs) if len(self.val_accs) > 1 else None

    def variance(self, val_images: int | None = None) -> float | None:
        """The variance over the fresh seeds, at least that of one of `val_images`; see `sd`."""
        return None if self.sd is None else max(self.sd, 1 / val_images if val_images else 0.0) ** 2

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean over seeds by Student's t; None for fewer than two seeds.

        It holds for these validation images, and for a candidate that was not chosen by its mean.
        """
        trained, variance = len(self.val_accs), self.variance(self.rival.trial.summary.val_images)
        if self.mean is None or variance is None:
            return None
        half = quantile(trained - 1) * math.sqrt(variance / trained)
        low, high = self.mean - half, self.mean + half
        return (max(0.0, low), min(1.0, high)) if 0 <= self.mean <= 1 else (low, high)

    @property
    def image_error(self) -> float | None:
        """The standard error of the mean over samples of as many images; None for no accuracy."""
        summary = self.rival.trial.summary
        images = None if summary.ranked else summary.val_images
        if not images or self.mean is None or not 0 <= self.mean <= 1:
            return None
        return image_error(self.mean, int(images))

    def logged(self, score: float) -> float:
        """A score as it was logged: an accuracy, a loss, or what ranks the trials of a command."""
        ranked = self.rival.trial.summary.ranked
        return ranked.of(score) if ranked else abs(score)

    @property
    def shown_sd(self) -> float | None:
        """`sd` in the unit of `logged`."""
        ranked = self.rival.trial.summary.ranked
        return None if self.sd is None else self.sd * abs(ranked.times if ranked else 1.0)

    @property
    def shown_interval(self) -> tuple[float, float] | None:
        """`interval` in the unit of `logged`, the lower end first."""
        if self.interval is None:
            return None
        low, high = sorted(self.logged(end) for end in self.interval)
        return low, high

    def shown(self, score: float) -> str:
        """`logged` in words: an accuracy stands for itself, what else ranks has its name."""
        ranked = self.rival.trial.summary.ranked
        name = f"{ranked.name} " if ranked else "loss " if score < 0 else ""
        return f"{name}{self.logged(score):.4f}"

    def as_json(self) -> dict[str, Any]:
        """The candidate in `refine --json` and `tune --json`."""
        return {
            "number": self.number,
            "config": str(self.config),
            "values": self.values,
            "selected_acc": self.selected_acc,
            "cut": self.rival.cut,
            "val_accs": self.val_accs,
            "asked": self.asked,
            "diverged": self.diverged,
            "failed": self.failed,
            "mean": self.mean,
            "sd": self.sd,
            "interval": list(self.interval) if self.interval else None,
            "image_error": self.image_error,
        }


def paired_gains(later: Rival, earlier: Rival, *, seeds: int) -> list[float]:
    """The difference of two trials' accuracies, or losses, for each fresh seed trained for both.

    A diverged run is worth a guess, or left out if that is unknown. A loss counts as minus its
    value.
    """
    scores: list[dict[int, float]] = []
    for rival in (later, earlier):
        found = {}
        for more, run in rival.repeats(seeds):
            summary = run.summary() or {}
            if summary.get("status") == "complete":
                found[more] = score_of(*map(summary.get, RESULTS))
            elif summary.get("status") == "diverged" and summary.get("chance_acc"):
                found[more] = float(summary["chance_acc"])
        scores.append(found)
    first, second = scores
    return [first[more] - second[more] for more in first if more in second]


def seed_noise(study: Study, best: Trial) -> float | None:
    """The standard deviation of an accuracy over seeds, 0..1, pooled over the study's repeats.

    Without two repeats of a trial the standard error of the best accuracy on the validation images:
    a smaller difference cannot be seen. None if the images are not counted either.
    """
    squares, degrees = 0.0, 0
    for part in [study, *rounds(study)]:
        accs: dict[str, list[float]] = {}
        for path in sorted(part.path.glob("trial-*-seed-*")):
            summary = Run(path).summary() or {}
            if summary.get("status") == "complete" and summary.get("val_acc") is not None:
                accs.setdefault(path.name.rpartition("-seed-")[0], []).append(summary["val_acc"])
        for repeated in accs.values():
            if len(repeated) > 1:
                squares += statistics.variance(repeated) * (len(repeated) - 1)
                degrees += len(repeated) - 1
    if degrees and squares:
        return math.sqrt(squares / degrees)
    images = best.summary.val_images
    return image_error(best.val_acc, images) if images and best.val_acc >= 0 else None


def candidates(rivals: Sequence[Rival], *, seeds: int) -> list[Candidate]:
    """The rivals with their repeats: highest mean first, then those with diverged seeds.

    Those without a completed repeat come last, in the order of the rivals.
    """
    found = []
    for rival in rivals:
        summaries = [summary for _, run in rival.repeats(seeds) if (summary := run.summary())]
        ends = [summary["status"] for summary in summaries]
        whole = [one for one in summaries if one["status"] == "complete"]
        accs = [score_of(*map(one.get, RESULTS)) for one in whole]
        found.append(Candidate(rival, seeds, accs, ends.count("diverged"), ends.count("failed")))
    return sorted(found, key=order)


def order(candidate: Candidate) -> tuple[bool, int, float]:
    """The sort key of a candidate: those with a diverged seed come after those without."""
    return candidate.mean is None, candidate.diverged, -(candidate.mean or 0.0)


def quantile(freedom: float, share: float = TWO_SIDED) -> float:
    """The quantile of Student's t with `freedom` degrees of freedom, by default that of 97.5 %.

    Two means differ significantly if they are more standard errors apart than that.
    """
    from scipy.special import stdtrit  # imported here: slow, and few commands need it

    return float(stdtrit(freedom, share))


def least_lead(one: Candidate, other: Candidate, *, val_images: int | None = None) -> float:
    """The difference of two means over seeds that is significant, by Welch's t test.

    Infinite if one of them has a single seed. Spreads are not pooled over candidates: a learning
    rate near the limit of stability has several times the spread of a low one, and a pooled test
    then names a false winner in one study of nine.
    """
    variances = [candidate.variance(val_images) for candidate in (one, other)]
    if None in variances:
        return math.inf
    counts = [len(candidate.val_accs) for candidate in (one, other)]
    errors = [(variance or 0.0) / count for variance, count in zip(variances, counts, strict=True)]
    if not sum(errors):
        return 0.0
    rest = sum(error**2 / (count - 1) for error, count in zip(errors, counts, strict=True))
    return quantile(sum(errors) ** 2 / rest, WINS) * math.sqrt(sum(errors))


def tied(found: Sequence[Candidate], *, val_images: int | None = None) -> list[Candidate]:
    """The first candidate and those that are not significantly worse, see `least_lead`.

    Candidates with a diverged seed are excluded if there are others. One with a single seed is
    tied, since it has no spread.
    """
    steady = [one for one in found if one.val_accs and not one.diverged]
    if not steady:
        return list(found[:1])
    best, *others = steady
    mean = statistics.fmean(best.val_accs)
    level = [
        one
        for one in others
        if mean - (one.mean or 0.0) <= least_lead(best, one, val_images=val_images)
    ]
    return [best, *level]


def winner(found: Sequence[Candidate], *, val_images: int | None = None) -> Candidate | None:
    """The candidate to train: of those that are tied the smallest network, then the highest mean.

    None if each diverged for a seed, or if none completed one. Where no seeds were asked for, or
    none are trained yet, it is the trial with the highest validation accuracy.
    """
    if not found or found[0].diverged:
        return None
    if found[0].mean is None:
        return None if any(one.diverged or one.failed for one in found) else found[0]
    return min(tied(found, val_images=val_images), key=_size)  # the first of several


def _size(candidate: Candidate) -> float:
    return candidate.parameters or math.inf


def findings(
    found: Sequence[Candidate],
    *,
    val_images: int | None = None,
    advice: str = "the same command trains them",
) -> list[Finding]:
    """The winner over fresh seeds, or a tie; and seeds that diverged, failed or are missing.

    `advice` says how to train the missing repeats.
    """
    unstable = [
        Finding(
            "unstable-seed",
            "warn",
            f"{one.name} diverged for {one.diverged} of {one.asked} seeds",
            "lower its train.lr, warm up, or clip gradients",
        )
        for one in found
        if one.diverged
    ]
    failures = [
        Finding(
            "failed-repeats",
            "warn",
            f"{one.name} failed for {one.failed} of {one.asked} seeds: {_cause(one)}",
            "these seeds are ignored; the same command trains them again",
        )
        for one in found
        if one.failed
    ]
    missing = sum(one.missing for one in found)
    total = sum(one.asked for one in found)
    undone = [
        Finding(
            "repeats",
            "warn",
            f"{missing} of {total} repeats with fresh seeds are not trained",
            advice,
        )
    ]
    return [*_winner(found, val_images), *unstable, *failures, *(undone if missing else [])]


def _cause(candidate: Candidate) -> str:
    """Why a repeat failed, as a line."""
    ends = [Summary.from_json(run.summary()) for _, run in candidate.rival.repeats(candidate.asked)]
    return next((end.error.line for end in ends if end and end.error), "no message")


def _winner(found: Sequence[Candidate], val_images: int | None) -> list[Finding]:
    if not found:
        return []
    best = found[0]
    if best.mean is None:
        text = "no winner: no candidate completed a run with a fresh seed"
        failed = any(one.diverged or one.failed for one in found)
        return [Finding("winner", "warn", text)] if failed else []
    evidence = _over_seeds(best)
    if best.diverged:
        text = f"no winner: every candidate diverged for a seed; the highest mean is {evidence}"
        return [Finding("winner", "warn", text, "lower train.lr, warm up, or clip gradients")]
    level = tied(found, val_images=val_images)
    steady = [one for one in found if one.val_accs and not one.diverged]
    images = _of_images(best)
    if len(steady) == 1:
        why = "the others diverged for a seed, or failed" if found[1:] else "the only candidate"
        return [Finding("winner", "info", f"{evidence}; it has no rival: {why}{images}")]
    if len(level) > 1:
        others = ", ".join(f"{one.name} ({one.shown(one.mean or 0)})" for one in level[1:])
        alone = any(one.sd is None for one in level)
        why = ": one seed per candidate has no spread" if alone else " significantly (Welch's t)"
        return [
            Finding(
                "tie",
                "info",
                f"{evidence} does not beat {others}{why}{images}",
                f"{_of_tied(level)}, or compare with more seeds or validation images",
            )
        ]
    return [
        Finding(
            "winner",
            "ok",
            f"{evidence}; next is {steady[1].name} with {steady[1].shown(steady[1].mean or 0)}"
            f"{images}",
        )
    ]


def _of_tied(level: Sequence[Candidate]) -> str:
    """Which of the tied candidates to train, and why."""
    taken = min(level, key=_size)
    if not any(one.parameters for one in level):  # of a command: the script does not say
        return f"train {taken.name}, whose mean is highest"
    if len({one.parameters for one in level}) == 1 or not taken.parameters:
        return f"train {taken.name}, whose mean is highest: none is known to have fewer parameters"
    return f"train {taken.name}, the smallest of them: {taken.parameters:,} parameters"


def _over_seeds(best: Candidate) -> str:
    """The name, the mean over fresh seeds with its interval, and apart from it what selected it."""
    trained = len(best.val_accs)
    of_all = f" of {best.asked}" if trained < best.asked else ""
    seeds = "seed" if trained == 1 and not of_all else "seeds"
    text = f"{best.name}: {best.shown(best.mean or 0)} over {trained}{of_all} fresh {seeds}"
    if best.shown_interval:
        low, high = best.shown_interval
        text += f", 95 % interval {low:.4f} to {high:.4f} by Student's t"
    return f"{text} (selected at {best.shown(best.selected_acc)})"


def _of_images(best: Candidate) -> str:
    """What the choice of validation images adds to the interval over seeds; empty if unknown."""
    if best.image_error is None:
        return ""
    images = best.rival.trial.summary.val_images
    return f"; other {images:,} validation images would move it by about {best.image_error:.4f}"
