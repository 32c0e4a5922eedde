"""Bring a study to its budget: who is trained next, what it came to, and when to stop.

One process decides. A trial that a dead process left RUNNING is taken up again under its number,
from its last checkpoint, and every decision follows from the curves. So a study that was stopped,
killed or extended holds the same trials as one that ran through.
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cnntune.clock import NEVER, Deadline
from cnntune.errors import UserCodeError
from cnntune.ledger import Ledger
from cnntune.rungs import PRUNE, Bracket, Progress, brackets, targets
from cnntune.runs import Run, summarise
from cnntune.samplers import distinct_trials, values_of
from cnntune.space import Choice, Sampler, Space, Value
from cnntune.workers import OUT_OF_MEMORY, Event, Job, run_jobs

SAME_FAILURES = 3  # in a row: Keras Tuner stops there too; what fails in each trial is a bug
BATCH_SIZE = "train.batch_size"


def run_trials(
    ledger: Ledger,
    *,
    budget: int,
    workers: int,
    places: Sequence[str],
    given: Sequence[Mapping[str, Value]] = (),
    seed: int | None = None,
    deadline: Deadline = NEVER,
    begin_until: Deadline = NEVER,
    at_least: int = 0,
) -> Generator[Event, None, None]:
    """Bring the study to `budget` trials and yield what happens; call it under the lock.

    The first trials take the values `given`, the others theirs from `seed`, the recipe's if left
    out. At the deadline trials in training are cut: what they are after their last finished epoch
    is in their folders, and the next call goes on there. After `begin_until` no trial is begun, but
    for the first `at_least`, and the budget is what has begun. A grid ends with its last point,
    whatever the budget.

    Raises:
        UserCodeError: where three trials in a row fail in the same way.
        StudyError: where the disk is full.
    """
    most = distinct_trials(ledger.recipe.search.sampler, ledger.recipe.space)
    budget = budget if most is None else min(budget, most)
    search = _Search(ledger, budget, tuple(given), seed, deadline)
    search.reconcile()
    yield from search.prune()
    failures: list[str] = []
    for event in run_jobs(search.next_job, workers=workers, places=places, deadline=deadline):
        search.note(event)
        yield event
        if begin_until.passed:
            search.begin_no_more(at_least)
        yield from search.prune()
        if event.summary is not None:
            error = event.summary.get("error")
            failures = [*failures, error] if error else []
            stop_after_same(failures)


def stop_after_same(failures: Sequence[str]) -> None:
    """Raise `UserCodeError` where the last three failures are the same."""
    last = failures[-SAME_FAILURES:]
    kinds = {re.sub(r"\d+", "#", error) for error in last}  # sizes and addresses vary
    if len(last) == SAME_FAILURES and len(kinds) == 1:
        raise UserCodeError(
            [*last[-1].splitlines(), f"stopped: {SAME_FAILURES} trials in a row failed so"]
        )


@dataclass
class _Open:
    """A trial that has not ended: its values, its accuracies so far, whether it trains now."""

    values: dict[str, Value]
    accs: list[float] = field(default_factory=list)
    busy: bool = False


class _Search:
    """What the coordinator knows: the trials that have not ended, and how the others ended."""

    def __init__(
        self,
        ledger: Ledger,
        budget: int,
        given: tuple[Mapping[str, Value], ...],
        seed: int | None,
        deadline: Deadline,
    ) -> None:
        self.ledger, self.budget, self.given = ledger, budget, given
        self.recipe = ledger.recipe
        self.epochs = self.recipe.search.epochs
        self.pruner = self.recipe.search.pruner
        self.seed = self.recipe.seed if seed is None else seed
        self.deadline = deadline
        self.brackets: list[Bracket] = []
        self.open: dict[int, _Open] = {}
        self.ended: dict[int, Progress] = {}
        self.too_large: float | None = None  # the smallest batch size that found no memory

    def reconcile(self) -> None:
        """Start from what is on disk: tell Optuna of what a dead coordinator had not told."""
        for trial in self.ledger.trials():
            summary = trial.run.summary() if trial.status == "running" else trial.summary
            if trial.status == "running" and summary is not None:
                self.ledger.tell(trial.number, summary)
            self.open[trial.number] = _Open(trial.values, trial.accs)
            if summary is not None:
                self._end(trial.number, summary)
        self.brackets = self._fitted_brackets()

    def _fitted_brackets(self) -> list[Bracket]:
        """The stored brackets cut or lengthened to the budget.

        A bracket decides nothing before all its trials have begun, so one that a larger budget
        planned may still shrink.
        """
        total = max(self.budget, self._begun)
        kept = [
            replace(bracket, size=min(bracket.size, total - bracket.first))
            for bracket in self.ledger.brackets
            if bracket.first < total
        ]
        covered = sum(bracket.size for bracket in kept)
        kept += brackets(self.pruner, self.epochs, first=covered, count=total - covered)
        if kept != self.ledger.brackets:
            self.ledger.set_brackets(kept)
        return kept

    @property
    def _begun(self) -> int:
        return len(self.open) + len(self.ended)

    def begin_no_more(self, at_least: int) -> None:
        """Make the budget what has begun, or `at_least`; nobody waits for the others then."""
        budget = min(self.budget, max(self._begun, at_least))
        if budget < self.budget:
            self.budget = budget
            self.brackets = self._fitted_brackets()

    def next_job(self) -> Job | None:
        """The next piece of work: a trial that may go on, or a new one."""
        if self.deadline.passed:
            return None
        for number, target in self._targets().items():
            trial = self.open[number]
            trained = len(trial.accs) >= self.epochs  # and killed before its end was written
            if not trial.busy and (target > len(trial.accs) or trained):
                return self._job(number, target)
        if self._begun >= self.budget:
            return None
        number = self._begun
        values = self._values(number)
        self.ledger.begin(self.recipe.space, values)
        self.open[number] = _Open(values)
        return self._job(number, self._targets()[number])

    def _job(self, number: int, target: int) -> Job:
        trial = self.open[number]
        trial.busy = True
        folder = self.ledger.study.trial(number).path
        return Job(number, self.recipe.for_trial(trial.values), folder, until=target)

    def _targets(self) -> dict[int, int]:
        """Up to where each open trial is to be trained now; without pruning, to the end."""
        if self.pruner == "none":
            return dict.fromkeys(self.open, self.epochs)
        running = {n: Progress(n, trial.accs) for n, trial in self.open.items()}
        return targets(self.pruner, self.epochs, self.brackets, self.ended | running)

    def _values(self, slot: int) -> dict[str, Value]:
        if slot < len(self.given):
            return dict(self.given[slot])
        sampler, study = self.recipe.search.sampler, self.ledger.optuna_study
        space = without_larger(self.recipe.space, self.too_large, sampler)
        return values_of(sampler, study, space, seed=self.seed, slot=slot, given=self.given)

    def note(self, event: Event) -> None:
        """Keep what happened."""
        number = event.job.number
        trial = self.open[number]
        if event.epoch is not None and event.epoch.epoch > len(trial.accs):
            trial.accs.append(event.epoch.val_acc)
        if event.paused:
            trial.busy = False
        if event.summary is not None:
            self.ledger.tell(number, event.summary)
            self._end(number, event.summary)

    def prune(self) -> Iterator[Event]:
        """End the trials that the others have left behind."""
        if self.pruner == "none":
            return
        for number, target in self._targets().items():
            trial = self.open[number]
            if target != PRUNE or trial.busy:
                continue
            run = self.ledger.study.trial(number)
            summary = _pruned_summary(run)
            run.finish(summary)
            self.ledger.tell(number, summary)
            self._end(number, summary)
            job = Job(number, self.recipe.for_trial(trial.values), run.path)
            yield Event(job, summary=summary)

    def _end(self, number: int, summary: Mapping[str, Any]) -> None:
        trial = self.open.pop(number)
        ranks = summary["status"] in ("complete", "pruned")
        self.ended[number] = Progress(number, trial.accs, ended=True, ranks=ranks)
        self.too_large = memory_limit(trial.values, summary, self.too_large)


def _pruned_summary(run: Run) -> dict[str, Any]:
    rows = run.rows()
    return summarise(rows) | {"status": "pruned", "seconds": sum(row.seconds for row in rows)}


def memory_limit(
    values: Mapping[str, Value], summary: Mapping[str, Any], known: float | None
) -> float | None:
    """The smallest batch size that found no memory, after a trial with these values."""
    if BATCH_SIZE not in values or not summary.get("error", "").startswith(OUT_OF_MEMORY):
        return known
    size = float(values[BATCH_SIZE])
    return min(size, known or size)


def without_larger(space: Space, limit: float | None, sampler: Sampler) -> Space:
    """The space without the batch sizes that found no memory, unless nothing is left.

    A grid keeps them: with fewer points a slot would mean another point.
    """
    sizes = space.get(BATCH_SIZE)
    if limit is None or sizes is None or sampler == "grid":
        return space
    if isinstance(sizes, Choice):
        options = tuple(option for option in sizes.options if float(option) < limit)
        return {**space, BATCH_SIZE: Choice(options)} if options else space
    if limit - 1 <= sizes.low:
        return space
    return {**space, BATCH_SIZE: replace(sizes, high=min(sizes.high, limit - 1))}
