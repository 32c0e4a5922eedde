"""Learning-rate schedules as pure functions of the step (lecture: learning rate decay)."""

import math
from typing import Literal, assert_never

Schedule = Literal["constant", "cosine", "step", "one-cycle"]

STEP_DROPS = (0.5, 0.75)  # of the run: He et al. 2016 divide by 10 at 32k and 48k of 64k steps
STEP_FACTOR = 0.1
ONE_CYCLE_RISE = 0.3  # of the run; this and the two below are torch's OneCycleLR defaults
ONE_CYCLE_START = 1 / 25  # of the peak
ONE_CYCLE_END = ONE_CYCLE_START * 1e-4  # of the peak


def rate_factor(schedule: Schedule, step: int, total_steps: int, warmup_steps: int = 0) -> float:
    """The factor on the recipe's learning rate at `step`, counted from 0.

    Warm-up rises linearly to 1 at its last step; the schedule covers the steps after it.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    remaining = total_steps - warmup_steps
    progress = (step - warmup_steps) / max(remaining, 1)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "step":
        return STEP_FACTOR ** sum(progress >= drop for drop in STEP_DROPS)
    if schedule == "one-cycle":
        return _one_cycle(step, total_steps)
    if schedule == "constant":
        return 1.0
    assert_never(schedule)


def _one_cycle(step: int, total_steps: int) -> float:
    """Up to the peak and down again, both along a cosine (Smith and Topin 2017)."""
    peak = max(ONE_CYCLE_RISE * total_steps - 1, 0.0)
    last = max(total_steps - 1, 1)
    if step < peak:
        return _between(ONE_CYCLE_START, 1.0, step / peak)
    return _between(1.0, ONE_CYCLE_END, (step - peak) / max(last - peak, 1e-9))


def _between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
