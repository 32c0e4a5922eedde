"""What is done before a search: the checks of `sanity` and a sweep of learning rates.

`tune` has each of them in a process of its own, for two reasons. A process that has computed a
gradient cannot fork any more where torch sees a GPU, and the sweep forks. And a process can be
ended when its time is up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.findings import Finding
from cnntune.machine.clock import NEVER, Deadline, OutOfTimeError
from cnntune.steps import lr_sweep, sanity
from cnntune.steps.lr_sweep import RateCurve
from cnntune.training import precision
from cnntune.training.build import load_data
from cnntune.training.open_recipe import described
from cnntune.user_code.borders import explaining
from cnntune.workers.processes import follow


@dataclass(frozen=True)
class Swept:
    """The curves of a sweep, and how many iterations an epoch of the recipe has."""

    curves: list[RateCurve]
    steps_per_epoch: int

    def trial_seconds(self, recipe: Recipe) -> float | None:
        """At least so long takes a trial of `search.epochs`, without measuring and starting up.

        None where trials draw what decides over their speed.
        """
        if any(key == "train.batch_size" or key.startswith("model.") for key in recipe.space):
            return None
        steps = min(curve.seconds / len(curve.losses) for curve in self.curves)
        return recipe.search.epochs * self.steps_per_epoch * steps


def check(recipe: Recipe, place: str, deadline: Deadline = NEVER) -> Iterator[str | Finding]:
    """Lines to say and findings of `sanity`, from a process of its own.

    Rules that have said nothing at the deadline are named in a last finding, of rule `sanity`.

    Raises:
        UserCodeError: where own model or loss code raises.
    """
    told = set()
    try:
        for news in follow("cnntune.steps.checks:findings", recipe, place, deadline=deadline):
            if isinstance(news, Finding):
                told.add(news.rule)
            yield news
    except OutOfTimeError:
        left = ", ".join(rule for rule in sanity.RULES if rule not in told)
        yield Finding("sanity", "info", f"skipped: time: {left}")


def findings(recipe: Recipe, place: str) -> Iterator[str | Finding]:
    """The line about the set-up and what `sanity` finds, in this process."""
    device = torch.device(place)
    data = load_data(recipe, device)
    yield described(recipe, place, data)
    beside, reason = precision.beside_others(recipe, data, place)
    if reason:
        yield reason
    precision.apply(beside)
    yield from sanity.check(recipe, data, device)


def sweep(
    recipe: Recipe, place: str, deadline: Deadline = NEVER
) -> Iterator[str | RateCurve | Finding | Swept]:
    """Lines to say, curves as they are measured, and last what can be judged.

    A sweep that is cut says so in a finding; one that has not tried every rate of the grid by then
    ends without a `Swept`.

    Raises:
        UserCodeError: where own model or loss code raises.
    """
    measured: list[RateCurve] = []
    steps = 0
    try:
        for news in follow("cnntune.steps.checks:rate_curves", recipe, place, deadline=deadline):
            if isinstance(news, int):
                steps = news
                continue
            if isinstance(news, RateCurve):
                measured.append(news)
            yield news
    except OutOfTimeError:
        measured = lr_sweep.over_the_grid(measured)
        what = "cut short" if measured else "skipped"
        yield Finding("lr-sweep", "info", f"{what}: time")
    if measured:
        yield Swept(measured, steps)


def rate_curves(recipe: Recipe, place: str) -> Iterator[int | str | RateCurve]:
    """The iterations of an epoch, then what `swept_rates` yields, in this process."""
    device = torch.device(place)
    data = load_data(recipe, device)
    yield max(1, len(data.train) // recipe.train.batch_size)
    yield from swept_rates(recipe, data, device)


def swept_rates(recipe: Recipe, data: Data, device: torch.device) -> Iterator[str | RateCurve]:
    """Each curve, after the line that says in what is computed and before the one about it."""
    processes = precision.parallel_runs(device, data)
    if processes > 1:
        recipe = recipe.with_values({"train.threads": 1})
    else:
        recipe, reason = precision.beside_others(recipe, data, str(device))
        if reason:
            yield reason
    with explaining():
        recipe = precision.resolve(recipe, data, device)
    precision.apply(recipe)
    yield f"computing in {recipe.arithmetic()}, {processes} rates at a time"
    for curve in lr_sweep.sweep(recipe, data, device, processes=processes):
        yield curve
        again = f", seed {curve.repeat + 1}" if curve.repeat else ""
        change = f"loss {curve.first:.3f} -> {curve.last:.3g} in {curve.iterations} iterations"
        yield f"rate {curve.lr:.2g}{again}: {change}"
