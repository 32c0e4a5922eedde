"""Lecture step 3: a learning rate that makes the loss go down within about 100 iterations."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cnntune.augment import augment
from cnntune.build import build_model, user_code
from cnntune.data import Data
from cnntune.findings import Finding
from cnntune.recipe import Recipe
from cnntune.seeds import derive_seed
from cnntune.train import Learner, seeded

GRID = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # CS231n step 3: "1e-1, 1e-2, 1e-3, 1e-4, 1e-5"
ITERATIONS = 100  # CS231n step 3: "within about 100 iterations"
WEIGHT_DECAY = 1e-4  # CS231n step 3: "turn on small weight decay"

LOWEST, HIGHEST = 1e-7, 10.0  # the sweep goes two decades beyond the grid at most
DIVERGED = 1.05
FLAT = 0.02
SLOW = 0.5
TAIL = 5  # the last fifth of the losses is where a rate ends: 20 batches

Verdict = Literal["decreasing", "slow", "flat", "unstable", "diverged"]


@dataclass(frozen=True)
class RateCurve:
    """The training losses of one learning rate, in nats, one an iteration; the last may be NaN."""

    lr: float
    losses: list[float]

    @property
    def first(self) -> float:
        """The loss before the first update: the same for every rate."""
        return self.losses[0]

    @property
    def last(self) -> float:
        """The mean of the last fifth, and infinite where the loss is or where the run broke off."""
        tail = self.losses[-(len(self.losses) // TAIL) or -1 :]
        mean = statistics.fmean(tail)
        return mean if math.isfinite(mean) else math.inf


def sweep(recipe: Recipe, data: Data, device: torch.device) -> Iterator[RateCurve]:
    """Try the grid, a decade further while the best rate is an end of it, then half-decades.

    Raises:
        UserCodeError: where own model or loss code raises.
    """
    curves: list[RateCurve] = []
    rates = list(GRID)
    while rates:
        for lr in rates:
            with user_code(f"training at rate {lr:g}"):
                curves.append(try_rate(recipe, data, device, lr))
            yield curves[-1]
        rates = next_rates(curves)


def next_rates(curves: Sequence[RateCurve]) -> list[float]:
    """The rates to try next: beyond the end where the best lies, or its half-decade neighbours."""
    tried = sorted(curve.lr for curve in curves)
    best = pick(curves)
    if best is None:
        return [half_decades(tried[0], -2)] if tried[0] > LOWEST else []
    if best.lr == tried[0] and best.lr > LOWEST:
        return [half_decades(best.lr, -2)]
    if best.lr == tried[-1] and best.lr < HIGHEST:
        return [half_decades(best.lr, 2)]
    neighbours = (half_decades(best.lr, 1), half_decades(best.lr, -1))
    return [lr for lr in neighbours if lr not in tried]


def half_decades(lr: float, steps: int) -> float:
    """The rate `steps` half-decades from `lr`, among 1, 3, 10, 30 ..."""
    return float(f"{10 ** ((round(2 * math.log10(lr)) + steps) / 2):.1g}")


def try_rate(recipe: Recipe, data: Data, device: torch.device, lr: float) -> RateCurve:
    """Train from the recipe's initial weights for 100 iterations at one constant rate.

    Every rate sees the same weights and the same batches, so that only the rate differs.
    """
    settings = recipe.train.model_copy(update={"weight_decay": WEIGHT_DECAY})
    learner = Learner.of(
        recipe.model_copy(update={"train": settings}), build_model(recipe, data), device
    )
    learner.set_lr(lr)
    learner.model.train()
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "lr-sweep"))
    losses: list[Tensor] = []
    with seeded(recipe.seed, "lr-sweep", device=device):
        batch = min(settings.batch_size, len(data.train))
        order = _endless_order(len(data.train), batch, generator)
        for inputs, labels in data.train.batches(order, batch):
            loss, _ = learner.step(augment(inputs, recipe.augment, generator), labels)
            losses.append(loss)
            if len(losses) % 10 == 0 and not math.isfinite(float(loss)):
                break
    return RateCurve(lr, torch.stack(losses).float().tolist())


def _endless_order(images: int, batch: int, generator: torch.Generator) -> Tensor:
    """The order of 100 batches, epoch after epoch, each without its incomplete last batch."""
    steps = max(1, images // batch)
    epochs = [
        torch.randperm(images, generator=generator)[: steps * batch]
        for _ in range(-(-ITERATIONS // steps))
    ]
    return torch.cat(epochs)[: ITERATIONS * batch]


def pick(curves: Sequence[RateCurve]) -> RateCurve | None:
    """The rate with the clearest stable decrease; None where no rate lowers the loss."""
    verdicts = judge_rates(curves)
    good = [c for c in curves if verdicts[c.lr] in ("decreasing", "slow")]
    return min(good, key=lambda curve: curve.last) if good else None


def judge_rates(curves: Sequence[RateCurve]) -> dict[float, Verdict]:
    """A verdict for each rate."""
    best = min(curve.last for curve in curves)
    return {curve.lr: _verdict(curve, best) for curve in curves}


def _verdict(curve: RateCurve, best: float) -> Verdict:
    if not math.isfinite(curve.last) or curve.last > DIVERGED * curve.first:
        return "diverged"
    drop = curve.first - curve.last
    if drop < FLAT * curve.first:
        return "flat"
    return "decreasing" if drop >= SLOW * (curve.first - best) else "slow"


@dataclass(frozen=True)
class Sweep:
    """The verdict on each rate, the rate picked, and the range worth searching."""

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


def judge(curves: Sequence[RateCurve]) -> Sweep:
    """What a sweep came to."""
    ordered = sorted(curves, key=lambda curve: -curve.lr)
    verdicts = judge_rates(ordered)
    best = pick(ordered)
    if best is None:
        return Sweep(ordered, verdicts, None, None, [_no_rate(verdicts)])
    low, high = search_range(ordered, verdicts, best)
    finding = Finding(
        "lr-sweep",
        "ok",
        f"rate {best.lr:.2g}: loss {best.first:.3f} -> {best.last:.3g} in {ITERATIONS} iterations;"
        f" search {low:.2g} to {high:.2g}",
        f"set train.lr = {best.lr:.2g}",
        measured=best.lr,
    )
    return Sweep(ordered, verdicts, best.lr, (low, high), [finding])


def _no_rate(verdicts: Mapping[float, Verdict]) -> Finding:
    listed = ", ".join(f"{lr:.2g} {verdict}" for lr, verdict in verdicts.items())
    return Finding(
        "lr-sweep",
        "fail",
        f"no rate lowers the loss: {listed}",
        "this is no matter of the rate: run `cnntune sanity`",
    )


def search_range(
    curves: Sequence[RateCurve], verdicts: Mapping[float, Verdict], best: RateCurve
) -> tuple[float, float]:
    """A decade below the best rate, and above it up to the last rate that still learns."""
    stable = [c.lr for c in curves if verdicts[c.lr] in ("decreasing", "slow")]
    return half_decades(best.lr, -2), max(half_decades(best.lr, 1), max(stable))
