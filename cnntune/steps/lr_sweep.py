"""Lecture step 3: a learning rate that makes the loss go down within about 100 iterations.

The rates differ in nothing but the rate: same weights, same batches. The best ones must hold for
other weights and batches too, since just above the best rate a network may fail one time in two.
"""

import functools
import itertools
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.data.augment import augment
from cnntune.findings import Finding
from cnntune.seeds import derive_seed
from cnntune.training.build import build_model
from cnntune.training.contracts import check_logits
from cnntune.training.device import seeded
from cnntune.training.loop import Learner, few_images
from cnntune.training.precision import check_resolved
from cnntune.user_code.borders import explaining
from cnntune.workers.fork_map import spread

GRID = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # CS231n step 3: "1e-1, 1e-2, 1e-3, 1e-4, 1e-5"
ITERATIONS = 100  # CS231n step 3: "within about 100 iterations"
PATIENCE = 300  # iterations, where 100 show no clear decrease: deep plain networks begin slowly
CLEAR = 0.2  # of the first loss
WEIGHT_DECAY = 1e-4  # CS231n step 3: "turn on small weight decay"
LOWEST, HIGHEST = 1e-7, 10.0  # the sweep goes two decades beyond the grid at most
CONFIRMATIONS = 2  # further seeds that the rate picked has to hold for
LOOK = 10  # iterations between looks at the loss: each waits for the device

TAIL = 5  # the last fifth of the losses, 20 batches, is where a rate ends
DIVERGED = 1.05  # times the first loss: more is no noise of a batch
FLAT = 0.02  # of the first loss; "loss barely changing" in the lecture
SLOW = 0.5  # of the best rate's drop
RISEN = 0.15  # of its drop that a curve may lose again
LUCK = 3.0  # standard errors
LEAST_LOSSES = 20  # from which the noise of a batch can be told
CLOSE = 0.1  # of the best rate's drop: two rates as near as this change places with the seed

Verdict = Literal["decreasing", "slow", "flat", "unstable", "diverged"]
USABLE = ("decreasing", "slow")


@dataclass(frozen=True)
class RateCurve:
    """The training losses of one learning rate, in nats, one an iteration; the last may be NaN.

    `repeat` counts the seeds: 0 is the recipe's own. `iterations` is how many were planned,
    `seconds` what all of them took.
    """

    lr: float
    losses: list[float]
    repeat: int = 0
    iterations: int = ITERATIONS
    seconds: float = field(default=0.0, compare=False)

    @property
    def first(self) -> float:
        """The loss before the first update: the same for every rate."""
        return self.losses[0]

    @property
    def last(self) -> float:
        """The mean of the last fifth; infinite where the run broke off."""
        mean = self._means()[-1]
        return mean if math.isfinite(mean) else math.inf

    @property
    def lowest(self) -> float:
        """The lowest mean of a fifth."""
        return min((mean for mean in self._means() if math.isfinite(mean)), default=math.inf)

    def _means(self) -> list[float]:
        size = max(1, len(self.losses) // TAIL)
        ends = range(len(self.losses), size - 1, -size)
        return [statistics.fmean(self.losses[end - size : end]) for end in ends][::-1]


def sweep(
    recipe: Recipe, data: Data, device: torch.device, *, processes: int = 1
) -> Iterator[RateCurve]:
    """Try the grid, then what `next_tries` asks for, and yield each curve as it is measured.

    On several processes the curves are the same, and come in the same order.

    Raises:
        UserCodeError: where own model or loss code raises, or gives what cannot be trained.
        OutOfMemoryError: where the model or a batch does not fit in memory.
        DeviceError: where a process dies.
    """
    check_resolved(recipe)
    with explaining():
        model = build_model(recipe, data).to(device)
        check_logits(model, few_images(data), len(data.classes), recipe.model.name)

    needed = replace(data, val=data.train, test=None)  # the rest need not be sent to a process
    tried = functools.partial(_tried, recipe, needed, device)
    with spread(tried, processes=processes) as tried_all:
        for iterations in (ITERATIONS, PATIENCE):
            curves: list[RateCurve] = []
            todo = [(lr, 0) for lr in GRID]
            while todo:
                for curve in tried_all([(*rate, iterations) for rate in todo]):
                    curves.append(curve)
                    yield curve
                todo = next_tries(curves)
            if is_clear(curves):
                return


def _tried(
    recipe: Recipe, data: Data, device: torch.device, what: tuple[float, int, int]
) -> RateCurve:
    with explaining():
        return try_rate(recipe, data, device, *what)


def is_clear(curves: Sequence[RateCurve]) -> bool:
    """Whether some rate lowered the loss by a fifth."""
    return any(curve.first - curve.last > CLEAR * curve.first for curve in curves)


def next_tries(curves: Sequence[RateCurve]) -> list[tuple[float, int]]:
    """The rates and repeats to try next; empty when the best rate is known.

    A decade beyond the grid while the best rate is an end of it, then its half-decade neighbours,
    then further seeds for the best two.
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
    """The rate `steps` half-decades from `lr`, among 1, 3, 10, 30 ..."""
    return float(f"{10 ** ((round(2 * math.log10(lr)) + steps) / 2):.1g}")


def try_rate(
    recipe: Recipe,
    data: Data,
    device: torch.device,
    lr: float,
    repeat: int = 0,
    iterations: int = ITERATIONS,
) -> RateCurve:
    """Train from the initial weights of a seed at one constant rate."""
    seed = recipe.seed + repeat
    settings = recipe.train.model_copy(update={"weight_decay": WEIGHT_DECAY})
    model = build_model(recipe, data, seed=seed)
    learner = Learner.of(recipe.model_copy(update={"train": settings}), model, device)
    learner.set_lr(lr)
    learner.begin(1)
    generator = torch.Generator().manual_seed(derive_seed(seed, "lr-sweep"))
    batch = min(settings.batch_size, len(data.train))
    order = _endless_order(len(data.train), batch, iterations, generator)
    losses: list[Tensor] = []
    start = time.monotonic()
    with seeded(seed, "lr-sweep", device=device):
        for inputs, labels in data.train.batches(order, batch):
            augmented = augment(inputs, labels, recipe.augment, data.normalise, generator)
            loss, _ = learner.step(*augmented)
            losses.append(loss)
            if len(losses) % LOOK == 0 and not math.isfinite(float(loss)):
                break
    measured = torch.stack(losses).float().tolist()
    return RateCurve(lr, measured, repeat, iterations, time.monotonic() - start)


def _endless_order(images: int, batch: int, count: int, generator: torch.Generator) -> Tensor:
    """The images of `count` batches, epoch after epoch, each without its incomplete last batch."""
    steps = max(1, images // batch)
    epochs = [
        torch.randperm(images, generator=generator)[: steps * batch]
        for _ in range(math.ceil(count / steps))
    ]
    return torch.cat(epochs)[: count * batch]


def judge_rates(curves: Sequence[RateCurve]) -> dict[float, Verdict]:
    """A verdict for each rate; one that fails for another seed is unstable.

    The lowest rate tells what batches do to the loss: all rates see the same ones, and where its
    own losses go nowhere, they are taken from those of the others.
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
    """`rise` is what luck may do to the end; `still` has the same batches at unchanged weights."""
    if not math.isfinite(curve.last) or curve.last > DIVERGED * curve.first:
        return "diverged"
    moved = curve if still is None else _without_batches(curve, still)
    if moved.first - moved.lowest < FLAT * moved.first:
        return "flat"
    if moved.last - moved.lowest > max(rise, RISEN * (moved.first - moved.lowest)):
        return "unstable"
    return "decreasing" if curve.first - curve.last >= SLOW * (curve.first - best) else "slow"


def _without_batches(curve: RateCurve, still: RateCurve) -> RateCurve:
    """The curve with what the batches do to its losses taken away: they begin at the mean."""
    mean = statistics.fmean(still.losses)
    pairs = zip(curve.losses, still.losses, strict=True)
    return replace(curve, losses=[mean + loss - same for loss, same in pairs])


def _is_still(curve: RateCurve) -> bool:
    """Whether its losses are those of the batches alone: the halves differ by luck at most."""
    noise = _batch_noise(curve)
    if noise is None:
        return False
    half = len(curve.losses) // 2
    change = statistics.fmean(curve.losses[:half]) - statistics.fmean(curve.losses[-half:])
    return abs(change) <= LUCK * noise * math.sqrt(2 / half)


def _rise_by_luck(curve: RateCurve) -> float:
    """By how much the mean of one fifth may lie above that of another at unchanged weights."""
    return LUCK * (_batch_noise(curve) or 0.0) * math.sqrt(2 * TAIL / len(curve.losses))


def _batch_noise(curve: RateCurve) -> float | None:
    """The standard deviation of a batch's loss, from neighbours, so that no trend counts.

    None where there are too few losses to tell, or one is no number.
    """
    if len(curve.losses) < LEAST_LOSSES or not math.isfinite(sum(curve.losses)):
        return None
    steps = [after - before for before, after in itertools.pairwise(curve.losses)]
    return math.sqrt(statistics.fmean(step * step for step in steps) / 2)


def pick(curves: Sequence[RateCurve]) -> float | None:
    """The stable rate with the lowest loss at the end; None where no rate lowers it."""
    best = contenders(curves)
    return best[0] if best else None


def contenders(curves: Sequence[RateCurve]) -> list[float]:
    """The best stable rates, two at most, by their mean loss at the end over the seeds tried.

    The second counts where it comes close, for then the seed may have decided.
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
    """The curves with the recipe's own seed, highest rate first, and what they came to.

    `lr` is the rate picked and `range` the rates worth searching; None where no rate learns.
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
                    "verdict": self.verdicts[curve.lr],
                    "loss_first": curve.first,
                    "loss_last": curve.last,
                    "losses": curve.losses,
                }
                for curve in self.curves
            ],
        }


def over_the_grid(curves: Sequence[RateCurve]) -> list[RateCurve]:
    """What a sweep that was cut short can be judged by: the last try of every rate of the grid.

    Empty where the grid was not tried once.
    """
    for iterations in (PATIENCE, ITERATIONS):
        found = [curve for curve in curves if curve.iterations == iterations]
        if {curve.lr for curve in found} >= set(GRID):
            return found
    return []


def judge(curves: Sequence[RateCurve]) -> Sweep:
    """What a sweep came to; where it was repeated with more iterations, those count."""
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
        f"rate {best.lr:.2g}: loss {best.first:.3f} -> {best.last:.3g} in {best.iterations} steps"
        f"{stable}; rates worth searching: {low:.2g} to {high:.2g}",
        f"--set train.lr={best.lr:.2g}",
        measured=best.lr,
    )
    return Sweep(own, verdicts, best.lr, (low, high), [finding])


def _no_rate(curves: Sequence[RateCurve], verdicts: Mapping[float, Verdict]) -> Finding:
    listed = ", ".join(f"{curve.lr:.2g} {verdicts[curve.lr]}" for curve in curves)
    return Finding(
        "lr-sweep",
        "fail",
        f"no rate lowers the loss: {listed}",
        "the rate is not what is wrong; run `cnntune sanity`",
    )


def search_range(verdicts: Mapping[float, Verdict], best: float) -> tuple[float, float]:
    """From a decade below the best rate to a half-decade above it.

    Above, only as far as rates are stable: what diverges in 100 iterations is no use to a search.
    """
    above = half_decades(best, 1)
    usable = verdicts.get(above, "decreasing") in USABLE
    return half_decades(best, -2), above if usable else best
