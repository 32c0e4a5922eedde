"""The next space: what each diagnosis, edge and share of the variance changes."""

from typing import Any

import pytest

from cnntune.config.recipe import Recipe, parse
from cnntune.config.space import Choice, Range, Value
from cnntune.diagnosis.rules import Label
from cnntune.steps.next_space import Change, apply, changes
from cnntune.study.effects import Idle
from cnntune.training.open_recipe import argument_problems

LR = {"log": [1e-4, 1e-1]}


def recipe(space: dict[str, Any], model: str = "small-cnn", **train: Any) -> Recipe:
    values = {"model": {"name": model}, "train": train, "search": {"epochs": 4}, "space": space}
    return parse(values, file="test", check_arguments=argument_problems)


def changed(
    space: dict[str, Any],
    best: dict[str, Value],
    problem: Label | None = None,
    idle: dict[str, Idle] | None = None,
    **train: Any,
) -> dict[str, Change]:
    found = changes(recipe(space, **train), [best], problem, idle or {})
    return {change.key: change for change in found}


def test_without_a_problem_the_space_narrows_around_the_best() -> None:
    # 1e-2 lies at 2/3 of three decades; a tenth of them is kept on both sides.
    (change,) = changed({"train.lr": LR}, {"train.lr": 1e-2}).values()
    assert isinstance(change.after, Range)
    assert change.after.low == pytest.approx(1e-2 * 10**-0.3, rel=1e-3)
    assert change.after.high == pytest.approx(1e-2 * 10**0.3, rel=1e-3)


def test_an_edge_widens_by_a_decade() -> None:
    change = changed({"train.lr": LR}, {"train.lr": 0.09})["train.lr"]
    assert isinstance(change.after, Range)
    assert change.after.high == pytest.approx(1.0)
    assert "upper end" in change.reason


def test_an_edge_beyond_which_nothing_is_allowed_does_not_widen() -> None:
    found = changed({"model.dropout": {"uniform": [0.0, 0.5]}}, {"model.dropout": 0.01})
    assert found["model.dropout"].after == Range(0.0, 0.06)


def test_a_key_whose_effect_is_below_the_noise_is_fixed_at_its_best_value() -> None:
    space = {"train.lr": LR, "train.batch_size": {"choice": [32, 64]}}
    best: dict[str, Value] = {"train.lr": 1e-2, "train.batch_size": 64}
    found = changed(space, best, idle={"train.batch_size": Idle(effect=0.002, noise=0.005)})
    assert found["train.batch_size"].after == 64
    assert found["train.batch_size"].reason == (
        "its values differ by at most 0.20 points of accuracy (95 %), less than the noise of a"
        " seed, 0.50"
    )
    planned = apply(recipe(space), list(found.values()))
    assert planned.train.batch_size == 64
    assert list(planned.space) == ["train.lr"]


def test_overfitting_raises_what_regularises_and_searches_what_was_fixed() -> None:
    space = {"train.weight_decay": {"log": [1e-6, 1e-2]}}
    found = changed(space, {"train.weight_decay": 1e-4}, "overfitting")
    assert found["train.weight_decay"].after == Range(1e-4, 1e-2, log=True)
    assert found["model.dropout"].after == Range(0.0, 0.5)
    assert found["train.label_smoothing"].after == Range(0.0, 0.2)
    assert found["augment.crop"].after == Choice((0, 1, 2))


def test_overfitting_proposes_nothing_that_the_recipe_refuses() -> None:
    found = changes(
        recipe({"train.lr": LR}, model="resnet18"), [{"train.lr": 1e-2}], "overfitting", {}
    )
    keys = {change.key for change in found}
    assert "model.dropout" not in keys  # torchvision's ResNet has none
    assert "train.weight_decay" in keys


def test_underfitting_doubles_capacity_and_epochs() -> None:
    found = changed(
        {"model.width": {"choice": [8, 16]}}, {"model.width": 16}, "underfitting", epochs=4
    )
    assert found["model.width"].after == Choice((16, 24, 32))
    assert (found["search.epochs"].after, found["train.epochs"].after) == (8, 8)


def test_instability_lowers_the_rates_and_warms_up() -> None:
    found = changed({"train.lr": LR}, {"train.lr": 0.05}, "unstable")
    assert found["train.lr"].after == Range(0.005, 0.05, log=True)
    assert found["train.warmup_epochs"].after == 1.0


def test_instability_does_not_warm_up_a_schedule_that_does_so_itself() -> None:
    found = changed({"train.lr": LR}, {"train.lr": 0.05}, "unstable", schedule="one-cycle")
    assert set(found) == {"train.lr"}


def test_curves_that_still_improve_are_given_twice_the_epochs() -> None:
    found = changed({"train.lr": LR}, {"train.lr": 0.01}, "still-improving")
    assert found["search.epochs"].after == 8


def test_every_change_says_why() -> None:
    space = {"train.lr": LR, "model.width": {"choice": [8, 16]}}
    problems: tuple[Label, ...] = ("overfitting", "underfitting", "unstable", "still-improving")
    for problem in problems:
        for change in changed(space, {"train.lr": 0.09, "model.width": 16}, problem).values():
            assert change.reason in change.finding().evidence
            assert change.before in change.finding().evidence
