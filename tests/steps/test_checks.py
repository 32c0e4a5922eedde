"""What comes before a search, in processes of their own and within a time."""

import pytest
import torch

from cnntune.config.recipe import Recipe
from cnntune.findings import Finding
from cnntune.machine.clock import Deadline
from cnntune.steps import checks, sanity
from cnntune.steps.lr_sweep import RateCurve
from cnntune.training.open_recipe import load_recipe


@pytest.fixture
def recipe() -> Recipe:
    found = load_recipe("digits", ["data.size=200", "model.width=4", "model.depth=1"])
    return found.for_run()


def test_a_check_without_time_names_the_rules_that_are_left_out(recipe: Recipe) -> None:
    (left_out,) = checks.check(recipe, "cpu", Deadline.after(0.0))
    text = f"out of time; skipped: {', '.join(sanity.RULES)}"
    assert left_out == Finding("sanity", "info", text)


def test_a_sweep_without_time_is_left_out(recipe: Recipe) -> None:
    (left_out,) = checks.sweep(recipe, "cpu", Deadline.after(0.0))
    assert left_out == Finding("lr-sweep", "info", "out of time: the sweep is skipped")


@pytest.mark.slow
def test_the_process_that_asks_for_checks_and_a_sweep_computes_no_gradient(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def computed(*_: object, **__: object) -> None:
        raise AssertionError("after this a process cannot fork where there is a GPU")

    monkeypatch.setattr(torch.Tensor, "backward", computed)
    monkeypatch.setattr(torch.autograd, "grad", computed)
    news = list(checks.check(recipe, "cpu"))
    assert {"initial-loss", "learns"} <= {one.rule for one in news if isinstance(one, Finding)}
    swept = list(checks.sweep(recipe, "cpu"))[-1]
    assert isinstance(swept, checks.Swept)


def test_a_trial_takes_its_epochs_times_the_iterations_of_the_quickest_rate(
    recipe: Recipe,
) -> None:
    curves = [RateCurve(0.1, [2.0] * 100, seconds=5.0), RateCurve(1.0, [2.0] * 10, seconds=0.4)]
    swept = checks.Swept(curves, steps_per_epoch=20)
    assert swept.trial_seconds(recipe.with_values({"search.epochs": 3})) == pytest.approx(2.4)
    drawn = load_recipe("digits")  # searches batch size and width, and with them the speed
    assert swept.trial_seconds(drawn) is None
