"""The steps before a search: the checks of `sanity` and a learning rate sweep.

`tune` runs each of them in a separate process, for two reasons: on a machine with a GPU, a process
that has computed a gradient can no longer fork, and the sweep forks; and a process can be stopped
when its time is up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.findings import Finding
from cnntune.machine.clock import NEVER, Deadline, OutOfTimeError
from cnntune.steps import lr_sweep, sanity, sweep_recipe
from cnntune.steps.lr_sweep import RateCurve
from cnntune.training import precision
from cnntune.training.build import load_data
from cnntune.training.open_recipe import described
from cnntune.user_code.borders import explaining
from cnntune.workers.processes import follow


@dataclass(frozen=True)
class Swept:
    """The curves of a sweep, and the number of iterations per epoch of the recipe."""

    curves: list[RateCurve]
    steps_per_epoch: int

    def trial_seconds(self, recipe: Recipe) -> float | None:
        """A lower bound of the time of a trial of `search.epochs`, without start-up and validation.

        None if the search space contains keys that determine the speed.
        """
        if any(key == "train.batch_size" or key.startswith("model.") for key in recipe.space):
            return None
        steps = min(curve.seconds / len(curve.losses) for curve in self.curves)
        return recipe.search.epochs * self.steps_per_epoch * steps


def check(recipe: Recipe, device_name: str, deadline: Deadline = NEVER) -> Iterator[str | Finding]:
    """Lines of progress and findings of `sanity`, from a separate process.

    At the deadline, a last finding of the rule `sanity` lists the rules without findings so far.

    Raises:
        UserCodeError: if the user's model or loss code raises.
    """
    reported = set()
    try:
        for news in follow("cnntune.steps.checks:findings", recipe, device_name, deadline=deadline):
            if isinstance(news, Finding):
                reported.add(news.rule)
            yield news
    except OutOfTimeError:
        left = ", ".join(rule for rule in sanity.RULES if rule not in reported)
        yield Finding("sanity", "info", f"out of time; skipped: {left}")


def findings(recipe: Recipe, device_name: str) -> Iterator[str | Finding]:
    """A line about the set-up and the findings of `sanity`, in this process."""
    device = torch.device(device_name)
    data = load_data(recipe, device)
    yield described(recipe, device_name, data)
    beside, reason = precision.beside_others(recipe, data, device_name)
    if reason:
        yield reason
    precision.apply(beside)
    yield from sanity.check(recipe, data, device)


def sweep(
    recipe: Recipe, device_name: str, deadline: Deadline = NEVER
) -> Iterator[str | RateCurve | Finding | Swept]:
    """Lines of progress, curves as they are measured, and last all curves that can be judged.

    At the deadline a finding reports that the sweep is incomplete. If it has not tried every
    learning rate of the grid by then, no `Swept` is yielded.

    Raises:
        UserCodeError: if the user's model or loss code raises.
    """
    measured: list[RateCurve] = []
    steps = 0
    try:
        for news in follow(
            "cnntune.steps.checks:rate_curves", recipe, device_name, deadline=deadline
        ):
            if isinstance(news, int):
                steps = news
                continue
            if isinstance(news, RateCurve):
                measured.append(news)
            yield news
    except OutOfTimeError:
        measured = lr_sweep.over_the_grid(measured)
        what = "the sweep is incomplete" if measured else "the sweep is skipped"
        yield Finding("lr-sweep", "info", f"out of time: {what}")
    if measured:
        yield Swept(measured, steps)


def rate_curves(recipe: Recipe, device_name: str) -> Iterator[int | str | RateCurve]:
    """The number of iterations per epoch, then what `swept_rates` yields, in this process."""
    device = torch.device(device_name)
    data = load_data(recipe, device)
    yield max(1, len(data.train) // recipe.train.batch_size)
    yield from swept_rates(recipe, data, device)


def swept_rates(recipe: Recipe, data: Data, device: torch.device) -> Iterator[str | RateCurve]:
    """A line on precision, then each curve followed by a line that describes it."""
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
    yield f"computing in {recipe.arithmetic()}, {processes} learning rates at a time"
    for curve in sweep_recipe.sweep(recipe, data, device, processes=processes):
        yield curve
        again = f", seed {curve.repeat + 1}" if curve.repeat else ""
        change = f"loss {curve.first:.3f} -> {curve.last:.3g} in {curve.iterations} iterations"
        yield f"lr {curve.lr:.2g}{again}: {change}"
