"""The budget of `tune`, and how rounds and repeats share it."""

import math
from dataclasses import dataclass, replace

from cnntune.errors import StudyError
from cnntune.machine.clock import NEVER, Deadline
from cnntune.steps.rivals import CANDIDATES

COARSE_SHARE = 0.4  # of the trials; later rounds have smaller spaces and longer trials
ROUND_SHARE = 0.2  # of the trials, per refinement
MIN_TRIALS = 4  # per round; fewer are not informative about a space
SEEDS = 3  # fresh seeds for each of the best three trials, at the end
REPEATS = CANDIDATES * SEEDS
MIN_BUDGET = MIN_TRIALS + REPEATS
TIMED_TRIALS = 50  # with a time budget, the shares of rounds are of this many trials
SANITY_TIME, SWEEP_TIME = 0.125, 0.25  # of the time, by which each of them must end
MIN_RESERVE, MAX_RESERVE = 0.25, 0.5  # of the time, reserved for the repeats
MARGIN, START_SECONDS = 1.25, 5.0  # factor and seconds added to the expected time of repeats
ROUND_TIME = 0.5  # of the time left for rounds, after which a round starts no more trials


@dataclass(frozen=True)
class Budget:
    """A number of training runs, repeats included, or a time.

    Rounds end at `rounds_until`, all repeats at `time`. A budget of runs has no time for rounds or
    repeats: at its `time`, if it has one, all training pauses.
    """

    runs: int | None = None
    time: Deadline = NEVER
    rounds_until: Deadline = NEVER
    seconds: float | None = None  # all of the time

    @classmethod
    def of(cls, runs: int | None, time: Deadline) -> "Budget":
        """The budget of a command that starts now: time, or runs that pause when `time` is over.

        Raises:
            StudyError: if the runs do not suffice for a round and its repeats.
        """
        if runs is not None and runs < MIN_BUDGET:
            raise StudyError(
                f"--budget: must be at least {MIN_BUDGET} training runs, {MIN_TRIALS} trials"
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
        """The budget with `seconds` reserved for the repeats, at least a quarter of the time.

        At most half of the time, so that further rounds are possible, unless `whole`.
        """
        if self.seconds is None:
            return self
        wanted = seconds if whole else min(seconds, MAX_RESERVE * self.seconds)
        kept = max(wanted, MIN_RESERVE * self.seconds)
        return replace(self, rounds_until=self.time.before(kept))

    def round_trials(self, share: float, used: int) -> int:
        """The number of trials of the next round, after `used` runs; 0 if the budget is spent.

        If too few trials would be left for a further round, this round includes them.
        """
        if self.runs is None:
            ended = self.rounds_until.passed
            return 0 if ended else max(MIN_TRIALS, round(share * TIMED_TRIALS))
        in_rounds = self.runs - REPEATS
        left = in_rounds - used
        if left < MIN_TRIALS:
            return 0
        size = max(MIN_TRIALS, round(share * in_rounds))
        return left if left - size < MIN_TRIALS else size

    def still(self, wanted: int, begun: int, used: int) -> int:
        """How many of the `wanted` trials a round may have, of which `begun` were started."""
        if self.runs is None:
            return max(wanted, begun)
        left = max(0, self.runs - REPEATS - used)
        return max(begun, min(wanted, begun + left))

    def repeats(self, used: int) -> int | None:
        """How many new repeats may be trained; None if there is no limit."""
        return None if self.runs is None else max(0, self.runs - used)


def refuse_too_short(asked: float | None, time: Deadline, trial_seconds: float | None) -> None:
    """Raise before the first round if the remaining time is too short for a single trial.

    `asked` is the whole budget in seconds; a trial takes at least `trial_seconds`, None if unknown.

    Raises:
        StudyError: if it is too short, with a budget that suffices.
    """
    left, trial = time.seconds_left, trial_seconds or 0.0
    if asked is None or left is None or left > trial:
        return
    spent = asked - left
    least = f" and a trial takes at least {trial:.0f} s" if trial else ""
    enough = math.ceil(max(spent / SWEEP_TIME, asked) + 2 * trial)
    raise StudyError(
        f"--budget: {asked:g} s is too short for a single trial: the checks took {spent:.0f} s"
        f"{least}; use --budget {enough}s"
    )
