"""Lecture step 3: find a learning rate that lowers the loss within about 100 iterations.

All learning rates are tried on the same initial weights and the same batches. The best ones are
confirmed with other seeds, since just above the best learning rate a network may fail for every
second seed.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cnntune.findings import Finding

GRID = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # CS231n step 3: "1e-1, 1e-2, 1e-3, 1e-4, 1e-5"
ITERATIONS = 100  # CS231n step 3: "within about 100 iterations"
CHECK_EVERY = 10  # iterations between two checks for NaN: each one waits for the device
PATIENCE = 300  # iterations, if 100 show no clear decrease: deep plain networks start slowly
CLEAR = 0.2  # of the first loss
LOWEST, HIGHEST = 1e-7, 10.0  # at most two decades beyond the grid
CONFIRMATIONS = 2  # further seeds for the best learning rates

TAIL = 5  # the final loss is the mean over the last fifth of the losses, 20 batches
DIVERGED = 1.05  # times the first loss: more than the noise of a batch
FLAT = 0.02  # of the first loss; "loss barely changing" in the lecture
SLOW = 0.5  # of the drop at the best learning rate
RISEN = 0.15  # of its drop that a curve may rise again
LUCK = 3.0  # standard errors
MIN_LOSSES = 20  # to estimate the noise of a batch
CLOSE = 0.1  # of the best drop: the order of two learning rates this close depends on the seed

Verdict = Literal["decreasing", "slow", "flat", "unstable", "diverged"]
USABLE = ("decreasing", "slow")
Try = tuple[float, int, int]  # learning rate, repeat, iterations


@dataclass(frozen=True)
class RateCurve:
    """The training losses at one learning rate, in nats, one per iteration; the last may be NaN.

    `repeat` is added to the recipe's seed. `iterations` is the planned number of iterations,
    `seconds` the time of all of them.
    """

    lr: float
    losses: list[float]
    repeat: int = 0
    iterations: int = ITERATIONS
    seconds: float = field(default=0.0, compare=False)

    @property
    def first(self) -> float:
        """The loss before the first update: the same for every learning rate."""
        return self.losses[0]

    @property
    def last(self) -> float:
        """The mean of the last fifth of the losses; infinite if one of them is not finite."""
        mean = self._means()[-1]
        return mean if math.isfinite(mean) else math.inf

    @property
    def lowest(self) -> float:
        """The lowest mean over a fifth of the losses."""
        return min((mean for mean in self._means() if math.isfinite(mean)), default=math.inf)

    def _means(self) -> list[float]:
        size = max(1, len(self.losses) // TAIL)
        ends = range(len(self.losses), size - 1, -size)
        return [statistics.fmean(self.losses[end - size : end]) for end in ends][::-1]


def measured(
    tried_all: Callable[[Sequence[Try]], Iterable[RateCurve]],
    lengths: Iterable[int] = (ITERATIONS, PATIENCE),
) -> Iterator[RateCurve]:
    """The curves of a sweep: the grid, then what `next_tries` returns, until the best is known.

    `tried_all` measures several learning rates. Where none shows a clear decrease, all are repeated
    with the next number of iterations.
    """
    for iterations in lengths:
        curves: list[RateCurve] = []
        todo = [(lr, 0) for lr in GRID]
        while todo:
            for curve in tried_all([(*attempt, iterations) for attempt in todo]):
                curves.append(curve)
                yield curve
            todo = next_tries(curves)
        if is_clear(curves):
            return


def is_clear(curves: Sequence[RateCurve]) -> bool:
    """Whether some learning rate lowered the loss by a fifth."""
    return any(curve.first - curve.last > CLEAR * curve.first for curve in curves)


def next_tries(curves: Sequence[RateCurve]) -> list[tuple[float, int]]:
    """The learning rates and repeats to try next; empty when the best learning rate is known.

    A decade beyond the grid while the best learning rate is at its end, then the half-decade
    neighbours of the best, then further seeds for the best two.
    """
    tried = {curve.lr for curve in curves}
    best = pick(curves)
    if best is None:
        lower = half_decades(min(tried), -2)
        return [(lower, 0)] if lower >= LOWEST else []
    around = [half_decades(best, 1), half_decades(best, -1)]
    if best == max(tried) and best < HIGHEST:
        around = [half_decades(best, 2)]
    elif best == min(tried) and best > LOWEST:
        around = [half_decades(best, -2)]
    new = [(lr, 0) for lr in around if lr not in tried and LOWEST <= lr <= HIGHEST]
    return new or [
        (lr, repeat)
        for lr in contenders(curves)
        for repeat in range(1, CONFIRMATIONS + 1)
        if not any(curve.lr == lr and curve.repeat == repeat for curve in curves)
    ]


def half_decades(lr: float, steps: int) -> float:
    """The learning rate `steps` half-decades from `lr`, out of 1, 3, 10, 30 ..."""
    return float(f"{10 ** ((round(2 * math.log10(lr)) + steps) / 2):.1g}")


def judge_rates(curves: Sequence[RateCurve]) -> dict[float, Verdict]:
    """A verdict for each learning rate; one that fails for another seed is unstable.

    All learning rates are tried on the same batches. If the losses at the lowest one show no trend,
    they are the differences between batches, and are subtracted from the other curves.
    """
    best = min(curve.last for curve in curves)
    lowest = min(curves, key=lambda curve: (curve.lr, curve.repeat))
    rise = _rise_by_luck(lowest)
    still = {c.repeat: c for c in curves if c.lr == lowest.lr and _is_still(c)}
    found = [_verdict(curve, best, rise, still.get(curve.repeat)) for curve in curves]
    judged = list(zip(curves, found, strict=True))
    verdicts = {curve.lr: verdict for curve, verdict in judged if curve.repeat == 0}
    for curve, verdict in judged:
        if verdicts[curve.lr] in USABLE and verdict not in USABLE:
            verdicts[curve.lr] = "unstable"
    return verdicts


def _verdict(curve: RateCurve, best: float, rise: float, still: RateCurve | None) -> Verdict:
    """`rise` is the allowed rise by chance; `still` has the same batches at unchanged weights."""
    if not math.isfinite(curve.last):
        return "diverged"
    moved = curve if still is None else _without_batches(curve, still)
    if moved.last > DIVERGED * moved.first:
        return "diverged"
    if moved.first - moved.lowest < FLAT * moved.first:
        return "flat"
    if moved.last - moved.lowest > max(rise, RISEN * (moved.first - moved.lowest)):
        return "unstable"
    return "decreasing" if curve.first - curve.last >= SLOW * (curve.first - best) else "slow"


def _without_batches(curve: RateCurve, still: RateCurve) -> RateCurve:
    """The curve without the differences between batches: its first loss is the mean of `still`."""
    mean = statistics.fmean(still.losses)
    pairs = zip(curve.losses, still.losses, strict=True)
    return replace(curve, losses=[mean + loss - same for loss, same in pairs])


def _is_still(curve: RateCurve) -> bool:
    """Whether the losses have no trend: the means of the halves differ by chance at most."""
    noise = _batch_noise(curve)
    if noise is None:
        return False
    half = len(curve.losses) // 2
    change = statistics.fmean(curve.losses[:half]) - statistics.fmean(curve.losses[-half:])
    return abs(change) <= LUCK * noise * math.sqrt(2 / half)


def _rise_by_luck(curve: RateCurve) -> float:
    """How much the mean of one fifth may exceed that of another by chance."""
    return LUCK * (_batch_noise(curve) or 0.0) * math.sqrt(2 * TAIL / len(curve.losses))


def _batch_noise(curve: RateCurve) -> float | None:
    """The standard deviation of the loss of a batch, from differences of neighbouring losses.

    A trend therefore does not count. None if there are too few losses, or one is not finite.
    """
    if len(curve.losses) < MIN_LOSSES or not math.isfinite(sum(curve.losses)):
        return None
    steps = [after - before for before, after in itertools.pairwise(curve.losses)]
    return math.sqrt(statistics.fmean(step * step for step in steps) / 2)


def pick(curves: Sequence[RateCurve]) -> float | None:
    """The stable learning rate with the lowest final loss; None if none lowers the loss."""
    best = contenders(curves)
    return best[0] if best else None


def contenders(curves: Sequence[RateCurve]) -> list[float]:
    """The best one or two stable learning rates, by the mean final loss over the seeds tried.

    The second is included if it is close, since the seed may then have decided.
    """
    verdicts = judge_rates(curves)
    ends = {
        lr: statistics.fmean(curve.last for curve in curves if curve.lr == lr)
        for lr, verdict in verdicts.items()
        if verdict in USABLE
    }
    ordered = sorted(ends, key=lambda lr: ends[lr])[:2]
    if not ordered:
        return []
    lowest = ends[ordered[0]]
    return [lr for lr in ordered if ends[lr] - lowest <= CLOSE * (curves[0].first - lowest)]


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep, with the curves of the recipe's seed, highest learning rate first.

    `lr` is the learning rate picked and `range` the range to search; None if none lowers the loss.
    `verdicts` is empty where the losses are no measure of progress.
    """

    curves: list[RateCurve]
    verdicts: dict[float, Verdict]
    lr: float | None
    range: tuple[float, float] | None
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """The keys that `lr-sweep --json` adds."""
        return {
            "lr": self.lr,
            "range": self.range,
            "curves": [
                {
                    "lr": curve.lr,
                    "verdict": self.verdicts.get(curve.lr),
                    "loss_first": curve.first,
                    "loss_last": curve.last,
                    "losses": curve.losses,
                }
                for curve in self.curves
            ],
        }


def over_the_grid(curves: Sequence[RateCurve]) -> list[RateCurve]:
    """The curves that an incomplete sweep can be judged by: those of the last complete grid.

    Empty if no grid is complete.
    """
    for iterations in (PATIENCE, ITERATIONS):
        found = [curve for curve in curves if curve.iterations == iterations]
        if {curve.lr for curve in found} >= set(GRID):
            return found
    return []


def judge(curves: Sequence[RateCurve]) -> Sweep:
    """The result of a sweep; if it was repeated with more iterations, of the longer curves."""
    curves = [c for c in curves if c.iterations == max(curve.iterations for curve in curves)]
    verdicts = judge_rates(curves)
    own = sorted((c for c in curves if c.repeat == 0), key=lambda curve: -curve.lr)
    best = next((curve for curve in own if curve.lr == pick(curves)), None)
    if best is None:
        return Sweep(own, verdicts, None, None, [_no_rate(own, verdicts)])
    low, high = search_range(verdicts, best.lr)
    seeds = sum(curve.lr == best.lr for curve in curves)
    stable = f", stable over {seeds} seeds" if seeds > 1 else ""
    finding = Finding(
        "lr-sweep",
        "ok",
        f"lr {best.lr:.2g}: loss {best.first:.3f} -> {best.last:.3g} in {best.iterations} steps"
        f"{stable}; range to search: {low:.2g} to {high:.2g}",
        f"--set train.lr={best.lr:.2g}",
        measured=best.lr,
    )
    return Sweep(own, verdicts, best.lr, (low, high), [finding])


def _no_rate(curves: Sequence[RateCurve], verdicts: Mapping[float, Verdict]) -> Finding:
    listed = ", ".join(f"{curve.lr:.2g} {verdicts[curve.lr]}" for curve in curves)
    return Finding(
        "lr-sweep",
        "fail",
        f"no learning rate lowers the loss: {listed}",
        "the learning rate is not the cause; run `cnntune sanity`",
    )


def search_range(verdicts: Mapping[float, Verdict], best: float) -> tuple[float, float]:
    """From a decade below the best learning rate to half a decade above it.

    The upper end is the best one itself if half a decade above is not stable.
    """
    above = half_decades(best, 1)
    usable = verdicts.get(above, "decreasing") in USABLE
    return half_decades(best, -2), above if usable else best
