"""Bring a study to its budget: who is trained next, what it came to, and when to stop.

One process decides. A trial that a dead process left RUNNING is taken up again under its number,
from its last checkpoint, and every decision follows from the curves. So a study that was stopped,
killed or extended holds the same trials as one that ran through.
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cnntune.config.recipe import Recipe
from cnntune.config.space import Choice, Space, Value
from cnntune.errors import UserCodeError
from cnntune.machine.clock import NEVER, Deadline
from cnntune.runs.study import Run, summarise
from cnntune.study.ledger import Ledger
from cnntune.study.pruning import PRUNE, Bracket, Progress, brackets, targets
from cnntune.study.samplers import distinct_trials, values_of
from cnntune.study.trial import Trial
from cnntune.workers.pool import OUT_OF_MEMORY, Event, Job, run_jobs

SAME_FAILURES = 3  # in a row: Keras Tuner stops there too; what fails in each trial is a bug


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

    Before the first trial the data are read once, by the worker that will train it.

    Raises:
        UserCodeError: where three trials in a row fail in the same way.
        StudyError: where the disk is full.
        CnntuneError: where the data cannot be read.
    """
    most = distinct_trials(ledger.recipe.search.sampler, ledger.recipe.space)
    budget = budget if most is None else min(budget, most)
    search = _Search(ledger, budget, tuple(given), seed, deadline)
    search.reconcile()
    yield from search.prune()
    failures = Failures(ledger)
    for event in run_jobs(search.next_job, workers=workers, places=places, deadline=deadline):
        if event.job.check:
            search.look.note(event)
            continue
        search.note(event)
        yield event
        if begin_until.passed:
            search.begin_no_more(at_least)
        yield from search.prune()
        failures.note(event)


class FirstLook:
    """The job before all others, which reads the data: what is wrong there comes before any trial.

    The worker keeps what it read, so nothing is read twice. Where the space varies the data there
    is no such job: each trial reads its own, and one that cannot fails alone.
    """

    def __init__(self, recipe: Recipe) -> None:
        varied = any(key.startswith("data.") for key in recipe.space)
        self._job = None if varied else Job(-1, recipe, Path(), check=True)
        self.pending = False  # the others wait

    @property
    def wanted(self) -> bool:
        """Whether the job is still to come."""
        return self._job is not None

    def take(self) -> Job | None:
        """The job, once."""
        job, self._job = self._job, None
        self.pending = job is not None
        return job

    def note(self, event: Event) -> None:
        """The job has ended with its last event."""
        self.pending = event.summary is None


class Failures:
    """The trials in a row that failed, and when they end a search."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.last: list[str] = []

    def note(self, event: Event) -> None:
        """Count a trial that ended.

        Memory that ran out does not count: it is a matter of sizes, which the next trial draws
        anew.

        Raises:
            UserCodeError: where the last three failed in the same way, and no option that they
                share explains it.
        """
        if event.summary is None:
            return
        error: str = event.summary.get("error", "")
        counts = bool(error) and event.summary.get("error_kind") != OUT_OF_MEMORY
        self.last = [*self.last, error][-SAME_FAILURES:] if counts else []
        if len(self.last) == SAME_FAILURES and len(set(map(_without_numbers, self.last))) == 1:
            trials = self.ledger.trials()
            if not blames_an_option(self.ledger.recipe.space, trials, error):
                raise UserCodeError(
                    [*error.splitlines(), f"stopped: {SAME_FAILURES} trials in a row failed so"]
                )


def blames_an_option(space: Space, trials: Sequence[Trial], error: str) -> bool:
    """Whether the trials that failed so have options of a `choice` that no sound trial has.

    One bad option fails the trials that draw it, and the others go on. Before any trial was sound
    that can be told of a single option only.
    """
    same = _without_numbers(error)
    failed = [t for t in trials if _without_numbers(str(t.summary.get("error", ""))) == same]
    sound = [t for t in trials if t.status in ("complete", "pruned", "diverged")]
    for key, dimension in space.items():
        if isinstance(dimension, Choice) and len(dimension.options) > 1:
            bad = {trial.values.get(key) for trial in failed}
            good = {trial.values.get(key) for trial in sound}
            if not bad & good and (good or len(bad) == 1):
                return True
    return False


def _without_numbers(error: str) -> str:
    return re.sub(r"\d+", "#", error)  # sizes and addresses vary


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
        self.look = FirstLook(self.recipe)

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
        if self.deadline.passed or self.look.pending:
            return None
        waiting = self._waiting()
        if waiting is None and self._begun >= self.budget:
            return None
        if look := self.look.take():
            return look
        if waiting is not None:
            return self._job(*waiting)
        number = self._begun
        values = self._values(number)
        self.ledger.begin(self.recipe.space, values)
        self.open[number] = _Open(values)
        return self._job(number, self._targets()[number])

    def _waiting(self) -> tuple[int, int] | None:
        """A trial that may go on, and up to which epoch."""
        for number, target in self._targets().items():
            trial = self.open[number]
            trained = len(trial.accs) >= self.epochs  # and killed before its end was written
            if not trial.busy and (target > len(trial.accs) or trained):
                return number, target
        return None

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
        space = self.recipe.space
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


def _pruned_summary(run: Run) -> dict[str, Any]:
    rows = run.rows()
    return summarise(rows) | {"status": "pruned", "seconds": sum(row.seconds for row in rows)}
