"""When trials that fail end a search: one after the other with the same error."""

import re
from collections.abc import Sequence

from cnntune.config.space import Choice, Space
from cnntune.errors import UserCodeError
from cnntune.study.ledger import Ledger
from cnntune.study.trial import Trial
from cnntune.workers.pool import Event

MAX_SAME_FAILURES = 3  # consecutive; Keras Tuner stops there too: what fails each trial is a bug
SOUND = ("complete", "pruned", "diverged")  # the statuses of trials that could be trained


class Failures:
    """The errors of the last consecutive trials that failed."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.last: list[str] = []
        self.again = ledger.again

    def note(self, event: Event) -> None:
        """Count the trial of an event that ends it.

        Out-of-memory does not count: it depends on sizes, which the next trial draws anew.

        Raises:
            UserCodeError: where the last three failed with the same error, and no option that they
                share explains it.
        """
        if event.summary is None:
            return
        error = event.summary.error
        if error is None or error.kind == "out-of-memory":
            self.last = []
            return
        if event.job.number in self.again and self._any_sound():
            return  # it failed before, and the search went on
        message = error.message
        self.last = [*self.last, message][-MAX_SAME_FAILURES:]
        if len(self.last) == MAX_SAME_FAILURES and len(set(map(_without_numbers, self.last))) == 1:
            trials = self.ledger.trials()
            if not blames_an_option(self.ledger.recipe.space, trials, message):
                stopped = (
                    f"stopped: {MAX_SAME_FAILURES} consecutive trials failed with the same error"
                )
                raise UserCodeError([*message.splitlines(), stopped])

    def _any_sound(self) -> bool:
        return any(trial.status in SOUND for trial in self.ledger.trials())


def blames_an_option(space: Space, trials: Sequence[Trial], error: str) -> bool:
    """Whether the trials with this error have options of a `choice` that no sound trial has.

    One bad option fails the trials that draw it, and the others are worth training. As long as no
    trial was sound, only an option that all failed trials share can be the cause.
    """
    same = _without_numbers(error)
    failed = [
        t for t in trials if t.summary.error and _without_numbers(t.summary.error.message) == same
    ]
    sound = [t for t in trials if t.status in SOUND]
    for key, dimension in space.items():
        if isinstance(dimension, Choice) and len(dimension.options) > 1:
            bad = {trial.values.get(key) for trial in failed}
            good = {trial.values.get(key) for trial in sound}
            if not bad & good and (good or len(bad) == 1):
                return True
    return False


def _without_numbers(error: str) -> str:
    # sizes, addresses and values vary
    return re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "#", error)
