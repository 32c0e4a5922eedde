"""What `tune` may spend, and how rounds and repeats share it."""

import math
from dataclasses import dataclass, replace

from cnntune.errors import StudyError
from cnntune.machine.clock import NEVER, Deadline
from cnntune.steps.winner import CANDIDATES

COARSE_SHARE = 0.4  # of the trials; the later rounds draw from smaller spaces and train longer
ROUND_SHARE = 0.2  # of the trials, for each refinement
LEAST_TRIALS = 4  # of a round: fewer say nothing about a space
SEEDS = 3  # fresh ones for each of the best three, at the end
REPEATS = CANDIDATES * SEEDS
LEAST_BUDGET = LEAST_TRIALS + REPEATS
TIMED_TRIALS = 50  # with a limit of time each round has the size that it would have of so many
SANITY_TIME, SWEEP_TIME = 0.125, 0.25  # of the time, until each of them has to be through
LEAST_RESERVE, MOST_RESERVE = 0.25, 0.5  # of the time, kept for the repeats
MARGIN, START_SECONDS = 1.25, 5.0  # on what the repeats are expected to take
ROUND_TIME = 0.5  # of the time left for rounds, until a round begins no further trial


@dataclass(frozen=True)
class Budget:
    """What may be spent: training runs in all, repeats included, or time.

    Rounds end at `rounds_until`, whatever is to be repeated at `time`. A budget of runs has no time
    for rounds or repeats: at its `time`, if it has one, all training pauses.
    """

    runs: int | None = None
    time: Deadline = NEVER
    rounds_until: Deadline = NEVER
    seconds: float | None = None  # all of the time

    @classmethod
    def of(cls, runs: int | None, time: Deadline) -> "Budget":
        """The budget of a command that begins now: time, or runs that pause when `time` is over.

        Raises:
            StudyError: where so few runs are no round and its repeats.
        """
        if runs is not None and runs < LEAST_BUDGET:
            raise StudyError(
                f"--budget: must be at least {LEAST_BUDGET} training runs, {LEAST_TRIALS} trials"
                f" and {SEEDS} repeats of the best {CANDIDATES} (got {runs})"
            )
        if runs is not None:
            return cls(runs, time)
        return cls(time=time, seconds=time.seconds_left).keeping(0.0)

    @property
    def paused(self) -> bool:
        """Whether a budget of runs has no time left for them."""
        return self.runs is not None and self.time.passed

    def keeping(self, seconds: float, *, whole: bool = False) -> "Budget":
        """The budget with so many seconds kept for the repeats, a quarter of all at least.

        Half at most, unless `whole`: what is found later deserves a chance too.
        """
        if self.seconds is None:
            return self
        wanted = seconds if whole else min(seconds, MOST_RESERVE * self.seconds)
        kept = max(wanted, LEAST_RESERVE * self.seconds)
        return replace(self, rounds_until=self.time.before(kept))

    def round_trials(self, share: float, used: int) -> int:
        """The trials of the next round, where `used` runs are trained; 0: the budget is spent.

        What would be too little for a further round belongs to this one.
        """
        if self.runs is None:
            ended = self.rounds_until.passed
            return 0 if ended else max(LEAST_TRIALS, round(share * TIMED_TRIALS))
        in_rounds = self.runs - REPEATS
        left = in_rounds - used
        if left < LEAST_TRIALS:
            return 0
        size = max(LEAST_TRIALS, round(share * in_rounds))
        return left if left - size < LEAST_TRIALS else size

    def still(self, wanted: int, begun: int, used: int) -> int:
        """How many of the `wanted` trials a round may have, of which so many have begun."""
        if self.runs is None:
            return max(wanted, begun)
        left = max(0, self.runs - REPEATS - used)
        return max(begun, min(wanted, begun + left))

    def repeats(self, used: int) -> int | None:
        """How many new repeats may be trained; None without a limit."""
        return None if self.runs is None else max(0, self.runs - used)


def refuse_too_short(asked: float | None, time: Deadline, trial_seconds: float | None) -> None:
    """Say before the first round that its time is too short for a single trial.

    `asked` is the whole budget in seconds; a trial takes at least `trial_seconds`, None if unknown.

    Raises:
        StudyError: where it is, with a time that would do.
    """
    left, trial = time.seconds_left, trial_seconds or 0.0
    if asked is None or left is None or left > trial:
        return
    spent = asked - left
    least = f" and a trial takes at least {trial:.0f} s" if trial else ""
    enough = math.ceil(max(spent / SWEEP_TIME, asked) + 2 * trial)
    raise StudyError(
        f"--budget: {asked:g} s is too short for a single trial: {spent:.0f} s went into the checks"
        f"{least}; --budget {enough}s would do"
    )
