"""Bring a study on a server to its budget, together with the coordinators of other machines.

Coordinators are peers; there is no leader. Each takes the next trial when a worker is free, and the
trials of dead machines; all of them end when every trial of the budget has.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cnntune.machine.clock import NEVER, Deadline
from cnntune.runs.summary import Summary
from cnntune.study.coordinator import Coordinator
from cnntune.study.shared_ledger import SharedLedger
from cnntune.texts import counted
from cnntune.workers.pool import Event, Job

POLL_SECONDS = 5.0  # between two questions to the server; half the time between two heartbeats


def run_shared(
    ledger: SharedLedger,
    *,
    budget: int,
    workers: int,
    devices: Sequence[str],
    deadline: Deadline = NEVER,
    say: Callable[[str], None],
) -> Iterator[Event]:
    """Train here what the study has left and yield the events of this machine.

    Ends when the study has `budget` trials and all have ended, on whatever machine. While others
    train the last ones it waits, for one of them might die; `say` takes a line about that. At the
    deadline trials in training are cut, and nothing is waited for. The last event of a trial that
    another machine has taken over meanwhile has the status "dropped" and says who took it.

    Raises:
        UserCodeError: where three consecutive trials fail with the same error.
        StudyError: where the disk is full, or the server stays unreachable.
        CnntuneError: where the data cannot be read.
    """
    coordinator = SharedCoordinator(ledger, budget=budget, deadline=deadline)
    waiting = False
    while True:
        yield from coordinator.train(workers, devices)
        left = coordinator.left()
        if not left:
            return
        if not waiting:
            say(f"waiting for {counted(left, 'trial')} on other machines, in case one of them dies")
            waiting = True
        left_seconds = deadline.seconds_left
        time.sleep(POLL_SECONDS if left_seconds is None else min(POLL_SECONDS, left_seconds))


class SharedCoordinator(Coordinator):
    """One of several; knows which trials train here, and asks the server about the others."""

    ledger: SharedLedger

    def __init__(self, ledger: SharedLedger, *, budget: int, deadline: Deadline) -> None:
        super().__init__(ledger, budget=budget, deadline=deadline)
        self.busy: set[int] = set()
        self.idle_until = 0.0  # so that each epoch of a busy worker does not ask the server

    def left(self) -> int:
        """How many trials others have not ended; 0 once that no longer matters here."""
        if self.deadline.passed:
            return 0
        trials = self.ledger.trials()
        running = sum(trial.status == "running" for trial in trials)
        return running + max(0, self.budget - len(trials))

    def next_job(self) -> Job | None:
        """The next trial to train here; a result that was not recorded is recorded first."""
        if not self.may_begin or time.monotonic() < self.idle_until:
            return None
        if self.data_check.wanted and self.left():
            return self.data_check.take()
        space = self.recipe.space
        while claimed := self.ledger.claim(space, self.budget, self.busy, self.values):
            number, values = claimed
            summary = Summary.from_json(self.ledger.study.trial(number).summary())
            if summary is None:
                self.busy.add(number)
                return self.job(number, values)
            self.ledger.tell_own(number, summary)
        self.idle_until = time.monotonic() + POLL_SECONDS
        return None

    def tell(self, event: Event) -> Iterator[Event]:
        """The event; the trial is dropped here where another machine has taken it over."""
        if event.summary is None:
            yield event
            return
        number = event.job.number
        taken_by = self.ledger.tell_own(number, event.summary)
        self.busy.remove(number)
        self.idle_until = 0.0
        if taken_by is not None:
            event = replace(event, summary=Summary("dropped"), taken_by=taken_by)
        yield event
