"""When a trial continues, waits or ends: synchronous halving, Hyperband and the median rule.

Every decision is a function of the curves alone. A search that was killed decides the same again,
and trials are compared at the same epoch only, so never one phase of a schedule with another.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from cnntune.config.space import Pruner

KEPT = 3  # one in three continues (Li et al. 2018 use 3 and 4)
CUT = 0.075  # of the epochs: where `halving` cuts. Of the ladders tried on whole runs of 27 epochs
# (benchmarks/search/search_efficiency.py) one cut after epoch 2 found the best soonest, on both
CUT_EPOCHS = 2  # at least: a score is the mean of two accuracies
MEDIAN_TRIALS = 5  # finished before the median counts (the default of Optuna's MedianPruner)
MEDIAN_EPOCHS = 1  # before: after one epoch curves still cross
PRUNE = 0  # the target of a trial that ends here


@dataclass(frozen=True)
class Bracket:
    """Trials that compete: `size` of them from number `first` on, cut at each epoch of `ladder`.

    The last epoch of the ladder is the whole run.
    """

    first: int
    size: int
    ladder: tuple[int, ...]

    @property
    def numbers(self) -> range:
        """The numbers of its trials."""
        return range(self.first, self.first + self.size)

    def as_json(self) -> dict[str, Any]:
        """The bracket as it is stored with the study."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Bracket":
        """The bracket that `as_json` stored."""
        return cls(stored["first"], stored["size"], tuple(stored["ladder"]))


@dataclass(frozen=True)
class Progress:
    """How far a trial is: `accs` holds the score of each finished epoch, its accuracy (0..1).

    `ended` trials are complete, pruned, failed or diverged; `ranks` is False for those of them
    whose curve counts for nothing, since they failed or diverged.
    """

    number: int
    accs: Sequence[float] = ()
    ended: bool = False
    ranks: bool = True

    def score(self, epoch: int) -> float:
        """The mean of the two best accuracies up to `epoch`: one may have been luck."""
        best = sorted(self.accs[:epoch])[-2:]
        return fmean(best) if best else -math.inf


def ladder(pruner: Pruner, epochs: int) -> tuple[int, ...]:
    """The epochs at which trials are cut, the whole run last.

    `hyperband` divides by three again and again, `halving` cuts once and early; the others cut at
    no fixed epoch.
    """
    if pruner == "halving":
        cut = max(CUT_EPOCHS, round(CUT * epochs))
        return (cut, epochs) if cut < epochs else (epochs,)
    rungs = [epochs]
    while pruner == "hyperband" and rungs[0] // KEPT >= 1:
        rungs.insert(0, rungs[0] // KEPT)
    return tuple(rungs)


def brackets(pruner: Pruner, epochs: int, *, first: int, count: int) -> list[Bracket]:
    """The brackets in which `count` further trials compete, from number `first` on.

    `hyperband` goes round its brackets, from many trials with short first rungs to few that are
    trained whole (Li et al. 2018). With the others all of them compete in one.
    """
    if count <= 0:
        return []
    rungs = ladder(pruner, epochs)
    if pruner != "hyperband":
        return [Bracket(first, count, rungs)]
    found: list[Bracket] = []
    turn = 0
    while count > 0:
        cuts = len(rungs) - 1 - turn % len(rungs)
        size = min(count, math.ceil(len(rungs) / (cuts + 1) * KEPT**cuts))
        found.append(Bracket(first, size, rungs[len(rungs) - 1 - cuts :]))
        first, count, turn = first + size, count - size, turn + 1
    return found


def targets(
    pruner: Pruner, epochs: int, groups: Iterable[Bracket], trials: Mapping[int, Progress]
) -> dict[int, int]:
    """Up to which epoch each trial that has not ended is to be trained now, the best first.

    `trials` maps numbers to progress. A target that equals the epochs done means waiting for
    others, and `PRUNE` that the trial ends here.
    """
    if pruner == "median":
        return _median_targets(epochs, trials)
    found: dict[int, int] = {}
    for bracket in groups:
        found |= _halving_targets(bracket, trials)
    return found


def _halving_targets(bracket: Bracket, trials: Mapping[int, Progress]) -> dict[int, int]:
    """Cut at a rung only when all trials have reached it: the first get no advantage."""
    alive = [trials[number] for number in bracket.numbers if number in trials]
    begun = len(alive) == bracket.size
    found: dict[int, int] = {}
    for rung in bracket.ladder:
        found |= {trial.number: rung for trial in alive if not trial.ended}
        reached = all(trial.ended or len(trial.accs) >= rung for trial in alive)
        if not (begun and reached) or rung == bracket.ladder[-1]:
            return found
        ranked = sorted(
            (trial for trial in alive if trial.ranks), key=lambda t: (-t.score(rung), t.number)
        )
        alive = ranked[: max(1, len(ranked) // KEPT)]
        kept = {trial.number: found[trial.number] for trial in alive if not trial.ended}
        found = kept | {number: PRUNE for number in found if number not in kept}
    return found


def _median_targets(epochs: int, trials: Mapping[int, Progress]) -> dict[int, int]:
    """End what is below the median of the finished trials at its epoch (Golovin et al. 2017)."""
    found = {}
    for trial in trials.values():
        if trial.ended:
            continue
        done = len(trial.accs)
        others = [t.score(done) for t in trials.values() if t.ended and t.ranks]
        judged = done >= MEDIAN_EPOCHS and len(others) >= MEDIAN_TRIALS
        behind = judged and trial.score(done) < median(others)
        found[trial.number] = PRUNE if behind else min(done + 1, epochs)
    return found
