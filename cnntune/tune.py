"""Lecture step 7: search, refine around the best, look at the curves, refine again, until it ends.

It ends when the budget does, or when a round gained less than another seed would change.
"""

import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnntune import refine, search
from cnntune.capacity import Plan
from cnntune.findings import Finding
from cnntune.ledger import Ledger, best_of
from cnntune.recipe import Recipe
from cnntune.runs import FORMAT, Study
from cnntune.space import Range
from cnntune.trials import run_trials
from cnntune.workers import Event

COARSE_SHARE = 0.4  # of the trials; the later rounds draw from smaller spaces and train longer
ROUND_SHARE = 0.2  # of the trials, for each refinement
LEAST_TRIALS = 4  # of a round: fewer say nothing about a space
SEEDS = 3  # for each of the best three, at the end


@dataclass(frozen=True)
class Budget:
    """What may be spent: trials in all rounds, or seconds from now on."""

    trials: int | None = None
    seconds: float | None = None
    start: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float | None:
        """None without a limit."""
        if self.seconds is None:
            return None
        return self.seconds - (time.monotonic() - self.start)

    def round_trials(self, share: float, used: int) -> int:
        """The trials of the next round; 0 where the budget is spent.

        With a limit of time each round has the size that it would have of fifty trials.
        """
        if self.trials is None:
            left = self.seconds_left or 0.0
            return max(LEAST_TRIALS, round(share * 50)) if left > 0 else 0
        wanted = max(LEAST_TRIALS, round(share * self.trials))
        left_trials = self.trials - used
        return min(wanted, left_trials) if left_trials >= LEAST_TRIALS else 0


@dataclass(frozen=True)
class Phase:
    """A part of the loop: what is about to be trained, why, and what happens."""

    title: str
    recipe: Recipe
    trials: int
    changes: list[Finding]
    events: Iterator[Event]


@dataclass
class Outcome:
    """What the loop comes to; filled while it runs."""

    study: Study
    changes: list[Finding] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    best_round: Study | None = None  # whose trials the candidates are
    candidates: list[refine.Candidate] = field(default_factory=list)

    @property
    def winner(self) -> Path | None:
        """The `config.json` of the trial to train."""
        if not self.candidates or self.best_round is None:
            return None
        return self.best_round.trial(self.candidates[0].number).path / "config.json"


def tune(
    outcome: Outcome, recipe: Recipe, budget: Budget, *, plan: Plan, places: Sequence[str]
) -> Iterator[Phase]:
    """Run the loop round by round, under the study's lock, all of it as the `plan` says.

    The caller exhausts the events of a phase before it asks for the next, and reads `outcome` at
    the end. A loop that was stopped goes on where it was.

    Raises:
        StudyError: where the study holds another recipe.
    """
    study = outcome.study
    ledger, notes = search.begin(study, recipe)
    _settle(ledger, plan)
    size = budget.round_trials(COARSE_SHARE, 0)
    train = functools.partial(run_trials, workers=plan.workers, places=places)
    coarse = train(ledger, budget=size, seconds=budget.seconds_left)
    title = f"round 0: {size} trials of {ledger.recipe.search.epochs} epochs"
    yield Phase(title, ledger.recipe, size, notes, coarse)
    while True:
        rounds = [ledger, *map(Ledger.open, finished_rounds(study))]
        used = sum(len(one.trials()) for one in rounds)
        size = budget.round_trials(ROUND_SHARE, used)
        reason = reason_to_stop(rounds, size)
        if reason:
            outcome.findings.append(reason)
            break
        current = refine.begin(study, None)
        _settle(current.ledger, plan)
        outcome.changes += current.changes
        refined = train(
            current.ledger,
            budget=size,
            seconds=budget.seconds_left,
            given=current.given,
            seed=current.seed,
        )
        title = f"round {current.number}: {size} trials of {current.recipe.search.epochs} epochs"
        yield Phase(title, current.recipe, size, current.changes, refined)
        if len(current.ledger.trials()) == size:
            current.study.write("refine", {"format": FORMAT, "trials": size})
    yield from _over_seeds(outcome, rounds, plan=plan, places=places)


def _settle(ledger: Ledger, plan: Plan) -> None:
    ledger.settle(plan.precision, plan.image_bytes, stream=plan.stream)


def with_swept_rates(recipe: Recipe, study: Study) -> Recipe:
    """The recipe with the rates of the last sweep in place of a range that holds none of them.

    A search keeps to the recipe and warns; the loop has to find its way out by itself.
    """
    swept = search.swept_range(recipe, study.read("lr-sweep"))
    asked = recipe.space.get("train.lr")
    if swept is None or not isinstance(asked, Range) or search.intersect(asked, swept):
        return recipe
    return recipe.model_copy(update={"space": recipe.space | {"train.lr": swept}})


def finished_rounds(study: Study) -> list[Study]:
    """The refinements that have had all their trials."""
    return [one for one in refine.rounds(study) if one.read("refine") is not None]


def reason_to_stop(rounds: Sequence[Ledger], size: int) -> Finding | None:
    """Why there is no further round of `size` trials, None where there is one.

    The gain of the last round is held against the standard error of an accuracy measured on so many
    images: less than that another seed, or other images, would change as well.
    """
    bests = [best_of(one.trials()) for one in rounds]
    if bests[-1] is None:
        return Finding("stopped", "fail", "no trial of the last round is complete")
    if size == 0:
        return Finding("stopped", "info", "the budget is spent")
    if len(bests) < 2 or bests[-2] is None:
        return None
    images = max(1, int(bests[-1].summary.get("val_images", 1)))
    acc = bests[-1].val_acc
    gain = acc - bests[-2].val_acc
    chance = math.sqrt(max(acc * (1 - acc), 1 / images) / images)
    if gain > chance:
        return None
    text = (
        f"the last round gained {100 * gain:+.2f} points, within the {100 * chance:.2f} of chance"
    )
    return Finding("stopped", "info", text, measured=gain, expected=chance)


def _over_seeds(
    outcome: Outcome, rounds: Sequence[Ledger], *, plan: Plan, places: Sequence[str]
) -> Iterator[Phase]:
    """Train the best trials of the best round again with further seeds, and compare them."""

    def best_acc(ledger: Ledger) -> float:
        best = best_of(ledger.trials())
        return best.val_acc if best else -1.0

    best_round = max(rounds, key=best_acc)
    trials = best_round.trials()
    rivals = refine.candidates_of(trials)
    if not rivals:
        return
    _settle(best_round, plan)
    study, recipe = best_round.study, best_round.recipe
    again = refine.repeat(study, trials, recipe, seeds=SEEDS, workers=plan.workers, places=places)
    repeats = len(rivals) * (SEEDS - 1)
    yield Phase(f"the best {len(rivals)} trials with further seeds", recipe, repeats, [], again)
    outcome.best_round = study
    outcome.candidates = refine.candidates(study, trials, seeds=SEEDS)
    images = rivals[0].summary.get("val_images")
    outcome.findings += refine.seed_findings(outcome.candidates, val_images=images)
