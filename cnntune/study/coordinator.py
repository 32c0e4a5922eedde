"""Bring a study to its budget: which trial is trained next, its result, and when to stop.

`Coordinator` is what every search does; `LocalCoordinator` is alone in writing the study, and
`shared_coordinator` shares one with other machines.

Alone, one process decides. A trial that a dead process left RUNNING is resumed under its number,
from its last checkpoint, and every decision follows from the curves. So a study that was stopped,
killed or extended holds the same trials as one that ran through.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cnntune.config.recipe import Recipe
from cnntune.config.space import Value
from cnntune.machine.clock import NEVER, Deadline
from cnntune.runs.run import Run
from cnntune.runs.summary import Summary, summarise
from cnntune.study.failures import Failures
from cnntune.study.ledger import Ledger
from cnntune.study.pruning import PRUNE, Bracket, Progress, brackets, targets
from cnntune.study.samplers import distinct_trials, values_of
from cnntune.workers.pool import Event, Job, run_jobs


def run_trials(
    ledger: Ledger,
    *,
    budget: int,
    workers: int,
    devices: Sequence[str],
    given: Sequence[Mapping[str, Value]] = (),
    seed: int | None = None,
    deadline: Deadline = NEVER,
    begin_until: Deadline = NEVER,
    at_least: int = 0,
) -> Generator[Event, None, None]:
    """Bring the study to `budget` trials and yield the events; call it under the lock.

    The first trials take the values `given`, the others theirs from `seed`, the recipe's if left
    out. At the deadline trials in training are cut: their state after their last finished epoch
    is in their folders, and the next call resumes there. After `begin_until` no trial is begun, but
    for the first `at_least`, and the budget is what has begun. A grid ends with its last point,
    whatever the budget.

    Before the first trial the data are read once, by the worker that will train it.

    Raises:
        UserCodeError: where three consecutive trials fail with the same error.
        StudyError: where the disk is full.
        CnntuneError: where the data cannot be read.
    """
    coordinator = LocalCoordinator(
        ledger,
        budget=budget,
        given=given,
        seed=seed,
        deadline=deadline,
        begin_until=begin_until,
        at_least=at_least,
    )
    coordinator.reconcile()
    yield from coordinator.prune()
    yield from coordinator.train(workers, devices)


class DataCheck:
    """The job before all others, which reads the data: what is wrong there comes before any trial.

    The worker keeps what it read, so nothing is read twice. Where the space varies the data, or a
    command reads them, there is no such job: each trial reads its own, and one that cannot fails
    alone.
    """

    def __init__(self, recipe: Recipe) -> None:
        varied = recipe.runs_command or any(key.startswith("data.") for key in recipe.space)
        self._job = None if varied else Job(-1, recipe, Path(), check=True)
        self.pending = False  # the others wait

    @property
    def wanted(self) -> bool:
        """Whether the job is still to be given out."""
        return self._job is not None

    def take(self) -> Job | None:
        """The job, once."""
        job, self._job = self._job, None
        self.pending = job is not None
        return job

    def note(self, event: Event) -> None:
        """The job has ended with its last event."""
        self.pending = event.summary is None


class Coordinator(ABC):
    """Trains trials of a study: a subclass says which one is next, and records the results."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        budget: int,
        given: Sequence[Mapping[str, Value]] = (),
        seed: int | None = None,
        deadline: Deadline = NEVER,
    ) -> None:
        self.ledger = ledger
        self.recipe = ledger.recipe
        distinct = distinct_trials(self.recipe.search.sampler, self.recipe.space)
        self.budget = budget if distinct is None else min(budget, distinct)
        self.given = tuple(given)
        self.seed = self.recipe.seed if seed is None else seed
        self.deadline = deadline
        self.data_check = DataCheck(self.recipe)
        self.failures = Failures(ledger)

    @abstractmethod
    def next_job(self) -> Job | None:
        """The next job; None where there is nothing to do before something else happens."""

    @abstractmethod
    def tell(self, event: Event) -> Iterator[Event]:
        """Record what happened to a trial; yields the events that the caller sees."""

    def train(self, workers: int, devices: Sequence[str]) -> Iterator[Event]:
        """Train until there is no next job and none is left in training.

        Raises:
            UserCodeError: where three consecutive trials fail with the same error.
        """
        for event in run_jobs(
            self.next_job, workers=workers, devices=devices, deadline=self.deadline
        ):
            if event.job.check:
                self.data_check.note(event)
                continue
            yield from self.tell(event)
            self.failures.note(event)

    @property
    def may_begin(self) -> bool:
        """Whether a job may begin now: in time, and after the data were read."""
        return not (self.deadline.passed or self.data_check.pending)

    def values(self, slot: int) -> dict[str, Value]:
        """The values of trial `slot`: given, or drawn from the seed."""
        if slot < len(self.given):
            return dict(self.given[slot])
        sampler, study = self.recipe.search.sampler, self.ledger.optuna_study
        space = self.recipe.space
        return values_of(sampler, study, space, seed=self.seed, slot=slot, given=self.given)

    def job(self, number: int, values: Mapping[str, Value], *, until: int | None = None) -> Job:
        """The job that trains trial `number`, up to epoch `until` or to its end."""
        folder = self.ledger.study.trial(number).path
        return Job(number, self.recipe.for_trial(values), folder, until=until)


@dataclass
class _Open:
    """A trial that has not ended: its values, its accuracies so far, whether it trains now."""

    values: dict[str, Value]
    accs: list[float] = field(default_factory=list)
    busy: bool = False


class LocalCoordinator(Coordinator):
    """Alone in writing the study; knows which trials have not ended, and how the others ended."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        budget: int,
        given: Sequence[Mapping[str, Value]],
        seed: int | None,
        deadline: Deadline,
        begin_until: Deadline,
        at_least: int,
    ) -> None:
        super().__init__(ledger, budget=budget, given=given, seed=seed, deadline=deadline)
        self.begin_until, self.at_least = begin_until, at_least
        self.epochs = self.recipe.search.epochs
        self.pruner = self.recipe.search.pruner
        self.brackets: list[Bracket] = []
        self.open: dict[int, _Open] = {}
        self.ended: dict[int, Progress] = {}

    def reconcile(self) -> None:
        """Start from what is on disk: tell Optuna the results that a dead coordinator had not."""
        for trial in self.ledger.trials():
            summary: Summary | None = trial.summary
            if trial.status == "running":
                summary = Summary.from_json(trial.run.summary())
                if summary is not None:
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

    def _begin_no_more(self) -> None:
        """Make the budget what has begun, or `at_least`; no trial waits for the others then."""
        budget = min(self.budget, max(self._begun, self.at_least))
        if budget < self.budget:
            self.budget = budget
            self.brackets = self._fitted_brackets()

    def next_job(self) -> Job | None:
        """A trial that may be resumed, or a new one."""
        if not self.may_begin:
            return None
        waiting = self._waiting()
        if waiting is None and self._begun >= self.budget:
            return None
        if check := self.data_check.take():
            return check
        if waiting is not None:
            return self._train(*waiting)
        number = self._begun
        values = self.values(number)
        self.ledger.begin(self.recipe.space, values)
        self.open[number] = _Open(values)
        return self._train(number, self._targets()[number])

    def _waiting(self) -> tuple[int, int] | None:
        """A trial that may be resumed, and up to which epoch."""
        for number, target in self._targets().items():
            trial = self.open[number]
            trained = len(trial.accs) >= self.epochs  # and killed before its end was written
            if not trial.busy and (target > len(trial.accs) or trained):
                return number, target
        return None

    def _train(self, number: int, target: int) -> Job:
        trial = self.open[number]
        trial.busy = True
        return self.job(number, trial.values, until=target)

    def _targets(self) -> dict[int, int]:
        """Up to where each open trial is to be trained now; without pruning, to the end."""
        if self.pruner == "none":
            return dict.fromkeys(self.open, self.epochs)
        running = {n: Progress(n, trial.accs) for n, trial in self.open.items()}
        return targets(self.pruner, self.epochs, self.brackets, self.ended | running)

    def tell(self, event: Event) -> Iterator[Event]:
        """The event itself, then the ends of the trials that it prunes."""
        self._note(event)
        yield event
        if self.begin_until.passed:
            self._begin_no_more()
        yield from self.prune()

    def _note(self, event: Event) -> None:
        number = event.job.number
        trial = self.open[number]
        if event.epoch is not None and event.epoch.epoch > len(trial.accs):
            trial.accs.append(event.epoch.score)
        if event.paused:
            trial.busy = False
        if event.summary is not None:
            self.ledger.tell(number, event.summary)
            self._end(number, event.summary)

    def prune(self) -> Iterator[Event]:
        """End the trials whose curves rank too low to be trained further."""
        if self.pruner == "none":
            return
        for number, target in self._targets().items():
            trial = self.open[number]
            if target != PRUNE or trial.busy:
                continue
            run = self.ledger.study.trial(number)
            summary = _pruned_summary(run)
            run.finish(summary.to_json())
            self.ledger.tell(number, summary)
            self._end(number, summary)
            yield Event(self.job(number, trial.values), summary=summary)

    def _end(self, number: int, summary: Summary) -> None:
        trial = self.open.pop(number)
        self.ended[number] = Progress(number, trial.accs, ended=True, ranks=summary.ranks)


def _pruned_summary(run: Run) -> Summary:
    rows = run.rows()
    return replace(summarise(rows), status="pruned", seconds=sum(row.seconds for row in rows))
