"""`cnntune.lr_sweep`: learning rates tried on copies of a model, judged as the command does."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cnntune.api import html, objects
from cnntune.api.objects import Batch, Loss, Model, Source, named, untouched
from cnntune.api.result import Result, document_of
from cnntune.api.words import findings_in_python, python_errors
from cnntune.cli.screen import Screen
from cnntune.errors import DataError, UserCodeError
from cnntune.findings import Finding
from cnntune.seeds import derive_seed
from cnntune.steps import lr_sweep as step
from cnntune.steps.lr_sweep import RateCurve
from cnntune.training.device import seeded
from cnntune.user_code.borders import border, explaining

MakeOptimizer = Callable[[Any, float], Optimizer]


@dataclass(frozen=True, eq=False, repr=False)
class Swept(Result):
    """The learning rates that were tried, highest first, each with its losses and a verdict."""

    sweep: step.Sweep

    @property
    def lr(self) -> float | None:
        """The learning rate picked; None where none lowers the loss."""
        return self.sweep.lr

    @property
    def range(self) -> tuple[float, float] | None:
        """The range to search; None where no learning rate lowers the loss."""
        return self.sweep.range

    @property
    def lrs(self) -> list[float]:
        """The learning rates, highest first."""
        return [curve.lr for curve in self.sweep.curves]

    @property
    def losses(self) -> dict[float, list[float]]:
        """The training loss at each step, by learning rate."""
        return {curve.lr: curve.losses for curve in self.sweep.curves}

    @property
    def verdicts(self) -> Mapping[float, step.Verdict]:
        """`decreasing`, `slow`, `flat`, `unstable` or `diverged`, by learning rate."""
        return self.sweep.verdicts


@dataclass
class _Loop:
    """The user's model, batches and loss: one run per learning rate."""

    source: Source
    loader: Any
    loss: Loss
    optimizer: MakeOptimizer
    seed: int
    orders: dict[int, list[Batch]]  # by repeat

    def batches(self, repeat: int, count: int) -> list[Batch]:
        """The batches of a repeat, over passes that each have an order of their own."""
        found = self.orders.setdefault(repeat, [])
        while len(found) < count:
            before = len(found)
            order = None if not repeat and not found else self.seed + 1000 * repeat + before
            for entry in objects.batches(self.loader, seed=order):
                found.append(objects.split(entry, whole=self.loss.function is None))
                if len(found) >= count:
                    break
            if len(found) == before:
                raise DataError("train_loader: yields no batch")
        return found[:count]

    def run(self, lr: float, repeat: int, iterations: int) -> RateCurve:
        """Train a copy at a constant learning rate."""
        device = objects.device_of(self.source.made)
        batches = self.batches(repeat, iterations)
        seed = self.seed + repeat
        if not isinstance(self.source.model, nn.Module):
            torch.manual_seed(derive_seed(seed, "init"))
        model = self.source.copy(fresh=True).train()
        optimizer = _made(self.optimizer, model, lr)
        losses: list[torch.Tensor] = []
        start = time.monotonic()
        with seeded(seed, "lr-sweep", device=device):
            for iteration in range(iterations):
                batch = batches[iteration].to(device)

                def closure(batch: Batch = batch) -> torch.Tensor:
                    optimizer.zero_grad()
                    value = self.loss(model, batch)
                    value.backward()
                    return value

                with border(f"a training step of model {self.source.name}"):
                    # The first value of a closure is the loss before the step.
                    losses.append(torch.as_tensor(optimizer.step(closure)).detach())  # type: ignore[arg-type]
                if len(losses) % step.CHECK_EVERY == 0 and not math.isfinite(float(losses[-1])):
                    break
        measured = torch.stack(losses).float().tolist()
        return RateCurve(lr, measured, repeat, iterations, time.monotonic() - start)


def _made(optimizer: MakeOptimizer, model: nn.Module, lr: float) -> Optimizer:
    with border(f"optimizer {named(optimizer)}"):
        made = optimizer(model.parameters(), lr)
    if not isinstance(made, Optimizer):
        raise UserCodeError(
            "optimizer: must return a torch.optim.Optimizer of (params, lr)"
            f" (got {type(made).__name__})"
        )
    return made


def lr_sweep(
    model: Model,
    train_loader: Iterable[Any],
    *,
    loss: Callable[..., torch.Tensor] | None,
    optimizer: MakeOptimizer,
    seed: int = 0,
) -> Swept:
    """Find a learning rate that lowers the loss within 100 steps, as `cnntune lr-sweep` does.

    Each of 1e-1, 1e-2, ... 1e-5, and half-decades around the best, trains a copy of the model with
    the same weights on the same batches. The best two are tried in two further orders of the
    batches, and with other initial weights where `model` is a function. Weights, random numbers and
    the position of the loader stay as they are.

    Args:
        model: a module with the weights that training begins from, or a function that makes one.
        train_loader: batches, as for `cnntune.sanity`; the first 100 are read, or 300 where 100
            steps show no clear decrease.
        loss: `loss(outputs, targets)`, a tensor of one number; None where the model returns it.
        optimizer: makes the optimizer of `(params, lr)`, such as
            `lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9)`.
        seed: of dropout, and of the further orders.

    Raises:
        DataError: where batches are not of a known kind, or an argument is not.
        UserCodeError: where the model cannot be copied, or model, loss or optimizer raise.
    """
    objects.check_loader(train_loader, "train_loader")
    objects.check_model_and_loss(model, loss)
    if not callable(optimizer):
        raise DataError(
            "optimizer: must be a function of (params, lr) that makes one, such as"
            f" torch.optim.AdamW (got {type(optimizer).__name__})"
        )
    with python_errors(), explaining():
        source = Source(model)
        with untouched(source.made):
            loop = _Loop(source, train_loader, Loss(loss), optimizer, seed, {})
            sweep = step.judge(_curves(loop))
    findings = findings_in_python(sweep.findings)
    if isinstance(model, nn.Module):
        text = "all runs begin from the weights of the model; to try others, pass a function"
        findings.append(Finding("initial-weights", "info", text))
    document = document_of("lr-sweep", findings, **sweep.as_json())
    title = f"learning rates of {source.name}"
    detail = f"{max(curve.iterations for curve in sweep.curves)} steps each"
    return Swept(
        findings,
        document,
        partial(_draw, f"{title}, {detail}", sweep, findings),
        [partial(_shown, title, detail, sweep, findings)],
        sweep,
    )


def _curves(loop: _Loop) -> list[RateCurve]:
    """The grid, then what `next_tries` says, with more steps where 100 are too few."""
    curves: list[RateCurve] = []
    for iterations in (step.ITERATIONS, step.PATIENCE):
        curves = []
        todo = [(lr, 0) for lr in step.GRID]
        while todo:
            curves += [loop.run(*attempt, iterations) for attempt in todo]
            todo = step.next_tries(curves)
        if step.is_clear(curves):
            break
    return curves


def _draw(title: str, sweep: step.Sweep, findings: Sequence[Finding], screen: Screen) -> None:
    screen.title(title)
    screen.sweep(sweep.as_json()["curves"], sweep.lr)
    screen.findings(findings)


def _shown(title: str, detail: str, sweep: step.Sweep, findings: Sequence[Finding]) -> str:
    rows = [
        (f"{curve.lr:.2g}", curve.losses, f"{curve.first:.3f}", f"{curve.last:.3g}", verdict)
        for curve in sweep.curves
        for verdict in [sweep.verdicts[curve.lr] + (", picked" if curve.lr == sweep.lr else "")]
    ]
    return "".join(
        (
            html.heading(title, detail),
            html.rates(rows, top=1.1 * max(curve.first for curve in sweep.curves)),
            *(html.finding(one) for one in findings),
        )
    )
