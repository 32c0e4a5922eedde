"""The best trial of a study: the only module that decides it.

The best three trials of the search and its refinements, by validation accuracy, are trained again
with fresh seeds. Only the fresh seeds are compared: the accuracy by which a trial was selected is
the best of many, and therefore too high.
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
from cnntune.runs.summary import RESULTS, summarise
from cnntune.steps.search_findings import nothing_learned
from cnntune.study.ledger import Ledger, begun
from cnntune.study.trial import Trial, ranked

CANDIDATES = 3  # trained again, to see whether the first one was best by chance
TWO_SIDED = 0.975  # quantile of a two-sided test at 5 %


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

    def shown(self, score: float) -> str:
        """An accuracy, the loss of a script that logs none, or what ranks it as it was logged."""
        if ranked := self.rival.trial.summary.ranked:
            return f"{ranked.name} {ranked.of(score):.4f}"
        return f"loss {-score:.4f}" if score < 0 else f"{score:.4f}"

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
        }


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


def quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution with `freedom` degrees of freedom.

    Two means differ significantly if they are more standard errors apart than that.
    """
    from scipy.special import stdtrit  # imported here: slow, and few commands need it

    return float(stdtrit(freedom, TWO_SIDED))


def freedom(found: Sequence[Candidate]) -> int:
    """Degrees of freedom of the candidates' pooled standard deviation."""
    return sum(max(0, len(candidate.val_accs) - 1) for candidate in found)


def tied(found: Sequence[Candidate], *, val_images: int | None = None) -> list[Candidate]:
    """The first candidate and those that are not significantly worse.

    The standard deviation is pooled over the candidates, since three seeds are few, and is at least
    1 / `val_images`, the resolution of accuracy. Candidates with a diverged seed are excluded if
    there are others. With one seed per candidate, all are tied.
    """
    steady = [one for one in found if one.val_accs and not one.diverged]
    if not steady:
        return list(found[:1])
    degrees = freedom(steady)
    if not degrees:
        return steady
    squares = [(one.sd or 0.0) ** 2 * (len(one.val_accs) - 1) for one in steady]
    spread = math.sqrt(sum(squares) / degrees)
    spread = max(spread, 1 / val_images if val_images else 0.0)
    best = steady[0]

    def least(other: Candidate) -> float:
        error = spread * math.sqrt(1 / len(best.val_accs) + 1 / len(other.val_accs))
        return quantile(degrees) * error

    return [
        one for one in steady if statistics.fmean(best.val_accs) - (one.mean or 0) <= least(one)
    ]


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
    summaries = [run.summary() or {} for _, run in candidate.rival.repeats(candidate.asked)]
    error = next((str(one["error"]) for one in summaries if one.get("error")), "")
    lines = error.strip().splitlines() or ["no message"]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def _winner(found: Sequence[Candidate], val_images: int | None) -> list[Finding]:
    if not found:
        return []
    best = found[0]
    if best.mean is None:
        text = "no winner: no candidate completed a run with a fresh seed"
        failed = any(one.diverged or one.failed for one in found)
        return [Finding("winner", "warn", text)] if failed else []
    evidence = f"{_over_seeds(best)} ({best.shown(best.selected_acc)} when it was selected)"
    if best.diverged:
        text = f"no winner: every candidate diverged for a seed; the highest mean is {evidence}"
        return [Finding("winner", "warn", text, "lower train.lr, warm up, or clip gradients")]
    level = tied(found, val_images=val_images)
    steady = [one for one in found if one.val_accs and not one.diverged]
    if len(steady) == 1:
        why = "the others diverged for a seed, or failed" if found[1:] else "the only candidate"
        return [Finding("winner", "info", f"{evidence}; it has no rival: {why}")]
    if len(level) > 1:
        others = ", ".join(f"{one.name} ({one.shown(one.mean or 0)})" for one in level[1:])
        return [
            Finding(
                "tie",
                "info",
                f"{evidence} does not beat {others}{_by_errors(steady)}",
                f"{_of_tied(level)}, or compare with more seeds or validation images",
            )
        ]
    return [
        Finding(
            "winner",
            "ok",
            f"{evidence}; next is {steady[1].name} with {steady[1].shown(steady[1].mean or 0)}",
        )
    ]


def _of_tied(level: Sequence[Candidate]) -> str:
    """Which of the tied candidates to train, and why."""
    taken = min(level, key=_size)
    if len({one.parameters for one in level}) == 1 or not taken.parameters:
        return f"train {taken.name}, whose mean is highest: none is known to have fewer parameters"
    return f"train {taken.name}, the smallest of them: {taken.parameters:,} parameters"


def _over_seeds(best: Candidate) -> str:
    ranked = best.rival.trial.summary.ranked
    scale = abs(ranked.times) if ranked else 1.0
    spread = f" ± {scale * best.sd:.4f}" if best.sd is not None else ""
    trained = len(best.val_accs)
    of_all = f" of {best.asked}" if trained < best.asked else ""
    seeds = "seed" if trained == 1 and not of_all else "seeds"
    return f"{best.name}: {best.shown(best.mean or 0)}{spread} over {trained}{of_all} fresh {seeds}"


def _by_errors(steady: Sequence[Candidate]) -> str:
    degrees = freedom(steady)
    if not degrees:
        return ": with one seed per candidate, differences may be chance"
    return f" by more than {quantile(degrees):.2g} standard errors"
