"""Bring a study on a server to its budget, together with the coordinators of other machines.

Nobody leads. Each takes the next trial when a worker is free, and the trials of machines that are
gone; all of them end when every trial of the budget has.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnntune.config.space import Value
from cnntune.machine.clock import NEVER, Deadline
from cnntune.study.coordinator import Failures, FirstLook
from cnntune.study.samplers import distinct_trials, values_of
from cnntune.study.shared_ledger import SharedLedger
from cnntune.workers.pool import Event, Job, run_jobs

POLL_SECONDS = 5.0  # between two looks at what the other machines left; half a beat


def run_shared(
    ledger: SharedLedger,
    *,
    budget: int,
    workers: int,
    places: Sequence[str],
    deadline: Deadline = NEVER,
    say: Callable[[str], None],
) -> Iterator[Event]:
    """Train here what the study has left and yield what happens here.

    Ends when the study has `budget` trials and all have ended, on whatever machine. While others
    train the last ones it waits, for one of them might die; `say` takes a line about that. At the
    deadline trials in training are cut, and nothing is waited for. The last event of a trial that
    another machine has taken over meanwhile has the status "dropped".

    Raises:
        UserCodeError: where three trials in a row fail in the same way.
        StudyError: where the disk is full, or the server stays away.
        CnntuneError: where the data cannot be read.
    """
    most = distinct_trials(ledger.recipe.search.sampler, ledger.recipe.space)
    search = _Search(ledger, budget if most is None else min(budget, most), deadline)
    failures = Failures(ledger)
    waiting = False
    while True:
        for event in run_jobs(search.next_job, workers=workers, places=places, deadline=deadline):
            if event.job.check:
                search.look.note(event)
                continue
            yield event if event.summary is None else search.tell(event)
            failures.note(event)
        left = search.left()
        if not left:
            return
        if not waiting:
            say(f"{left} trials still train on other machines; waiting, in case one of them dies")
            waiting = True
        left_seconds = deadline.seconds_left
        time.sleep(POLL_SECONDS if left_seconds is None else min(POLL_SECONDS, left_seconds))


class _Search:
    """What one coordinator of several knows: the trials that train here."""

    def __init__(self, ledger: SharedLedger, budget: int, deadline: Deadline) -> None:
        self.ledger, self.budget = ledger, budget
        self.recipe = ledger.recipe
        self.deadline = deadline
        self.busy: dict[int, dict[str, Value]] = {}
        self.look = FirstLook(self.recipe)
        self.idle_until = 0.0  # so that each epoch of a busy worker does not ask the server

    def left(self) -> int:
        """The trials that others have not ended, 0 where that is no longer our concern."""
        if self.deadline.passed:
            return 0
        trials = self.ledger.trials()
        running = sum(trial.status == "running" for trial in trials)
        return running + max(0, self.budget - len(trials))

    def next_job(self) -> Job | None:
        """The next trial to train here; one that was finished here and not told is told."""
        if self.deadline.passed or self.look.pending or time.monotonic() < self.idle_until:
            return None
        if self.look.wanted and self.left():
            return self.look.take()
        space = self.recipe.space
        while claimed := self.ledger.claim(space, self.budget, self.busy, self._values):
            number, values = claimed
            run = self.ledger.study.trial(number)
            summary = run.summary()
            if summary is None:
                self.busy[number] = values
                return Job(number, self.recipe.for_trial(values), run.path)
            self.ledger.tell_own(number, summary)
        self.idle_until = time.monotonic() + POLL_SECONDS
        return None

    def _values(self, slot: int) -> Mapping[str, Value]:
        sampler, study = self.recipe.search.sampler, self.ledger.optuna_study
        return values_of(sampler, study, self.recipe.space, seed=self.recipe.seed, slot=slot)

    def tell(self, event: Event) -> Event:
        """The last event of a trial, once it is told."""
        number = event.job.number
        summary: dict[str, Any] = event.summary or {}
        taken_by = self.ledger.tell_own(number, summary)
        self.busy.pop(number)
        self.idle_until = 0.0
        if taken_by is None:
            return event
        return replace(event, summary={"status": f"dropped: {taken_by} took it over"})
