"""The advice of `diagnose`: keys and values where they are known, general words otherwise."""

import math
from dataclasses import replace
from typing import Any

import pytest
from drawn_curves import CONVERGED, EXPLODED, IMPROVING, LABELLED, OVERFITTING, every
from hypothesis import given, settings
from hypothesis import strategies as st

from cnntune.config.recipe import Recipe, flatten
from cnntune.diagnosis.curve import Curve
from cnntune.diagnosis.rules import diagnose
from cnntune.errors import RecipeError
from cnntune.runs.chance import Chance


def test_advice_names_the_key_its_value_and_the_next_one() -> None:
    known = {"train.weight_decay": 1e-4, "augment.crop": 4, "model.dropout": 0.0, "model.width": 32}
    advice = diagnose(OVERFITTING, settings=known).advice
    assert advice == [
        "raise train.weight_decay from 0.0001 towards 0.001",
        "set model.dropout to 0.2 (now 0)",
        "collect more training data",
        "lower model.width from 32 towards 16",
        "keep the weights of the best epoch, 5 of 12",
    ]


def test_advice_for_divergence_lowers_the_learning_rate_first() -> None:
    known = {"train.lr": 0.5, "train.warmup_epochs": 0.0, "train.grad_clip": 1.0}
    advice = diagnose(EXPLODED, settings=known).advice
    assert advice[:2] == [
        "lower train.lr from 0.5 towards 0.05",
        "set train.warmup_epochs to 1 (now 0)",
    ]
    assert not any("grad_clip" in line for line in advice)


def test_advice_without_settings_is_general() -> None:
    advice = diagnose(OVERFITTING).advice
    assert advice[0] == "augment the training data; for images: random crops, flips, colour"
    assert not any("." in line for line in advice)


def test_values_of_the_wrong_type_in_an_edited_config_count_as_unknown() -> None:
    odd = {"train.weight_decay": "small", "augment.crop": [4], "model.width": None}
    assert diagnose(OVERFITTING, settings=odd).advice == diagnose(OVERFITTING).advice


def test_a_run_that_still_improves_gets_more_epochs_or_those_in_its_recipe() -> None:
    assert diagnose(IMPROVING, settings={"train.epochs": 10}).advice == [
        "raise train.epochs from 10 towards 20"
    ]
    found = diagnose(IMPROVING, planned_epochs=30, settings={"train.epochs": 30})
    assert found.advice == ["let the run complete its 30 epochs"]
    assert "stopped-early" in found.flags
    assert "stopped-early" not in diagnose(IMPROVING, planned_epochs=10).flags


def test_a_run_that_is_flat_for_its_second_half_was_too_long() -> None:
    known = {"train.schedule": "constant", "train.epochs": 30}
    found = diagnose(CONVERGED, settings=known)
    assert found.advice == [
        "set train.schedule to cosine (now constant)",
        "lower train.epochs from 30 towards 15",
    ]
    assert "saturated-early" in found.flags


def test_a_schedule_that_has_ended_is_a_sign() -> None:
    rates = every(lambda epoch: 0.05 * (1 - epoch / 10) ** 2, 10)
    assert "schedule-ended" in diagnose(replace(IMPROVING, lr=rates)).flags
    assert "schedule-ended" not in diagnose(replace(IMPROVING, lr=[0.05] * 10)).flags


def test_advice_fits_the_terminal() -> None:
    for curve in LABELLED.values():
        for line in diagnose(curve).advice:
            assert len(line) <= 96
            assert line[0].islower()


OVER_CONFIDENT = replace(OVERFITTING, val_acc=[0.3, 0.5, *[0.65] * 10])


def test_no_labels_are_smoothed_for_a_custom_loss() -> None:
    plain = {"train.loss": "cross-entropy", "train.label_smoothing": 0.0}
    assert diagnose(OVER_CONFIDENT, settings=plain).change == ("train.label_smoothing", 0.1)
    found = diagnose(OVER_CONFIDENT, settings={**plain, "train.loss": "own_code:focal"})
    assert found.change is None
    assert not any("label_smoothing" in line for line in found.advice)


def test_no_warm_up_is_added_to_one_cycle_nor_to_a_single_epoch() -> None:
    known = {"train.warmup_epochs": 0.0, "train.epochs": 8, "train.schedule": "cosine"}
    assert diagnose(EXPLODED, settings=known).change == ("train.warmup_epochs", 1)
    for other in ({"train.schedule": "one-cycle"}, {"train.epochs": 1}):
        assert diagnose(EXPLODED, settings={**known, **other}).change is None


def test_epochs_are_not_halved_below_the_warm_up() -> None:
    known = {"train.epochs": 30, "train.warmup_epochs": 15.0, "train.schedule": "cosine"}
    assert diagnose(CONVERGED, settings=known).change is None
    assert diagnose(CONVERGED, settings={**known, "train.warmup_epochs": 5.0}).change == (
        "train.epochs",
        15,
    )


@pytest.mark.parametrize(
    ("known", "pixels"),
    [
        ({"data.name": "digits"}, 1),  # 8x8
        ({"data.name": "folder", "data.image_size": 16}, 2),
        ({"data.name": "folder", "data.image_size": 224}, 4),
        ({"data.name": "cifar10"}, 4),
    ],
)
def test_a_crop_is_at_most_an_eighth_of_the_image(known: dict[str, Any], pixels: int) -> None:
    found = diagnose(OVERFITTING, settings={**known, "augment.crop": 0})
    assert found.change == ("augment.crop", pixels)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(LABELLED)),
    st.sampled_from(["constant", "cosine", "step", "one-cycle"]),
    st.integers(1, 6),
    st.floats(0, 5),
    st.sampled_from(["cross-entropy", "own_code:focal"]),
)
def test_no_recipe_rejects_the_first_change(
    label: str, schedule: str, epochs: int, warm_up: float, loss: str
) -> None:
    values: dict[str, Any] = {"schedule": schedule, "epochs": epochs}
    values |= {"warmup_epochs": warm_up, "loss": loss}
    try:
        recipe = Recipe().with_values({f"train.{key}": value for key, value in values.items()})
    except RecipeError:
        return  # no such run
    change = diagnose(LABELLED[label], settings=flatten(recipe.as_values())).change
    if change is not None:
        recipe.with_values(dict([change]))  # raises RecipeError


def noisy(level: float, jump: float) -> list[float]:
    """Ten losses about a level, as a pseudorandom sequence of signs throws them."""
    return [level + jump * sign for sign in (1, -1, 1, 1, -1, 1, -1, -1, 1, -1)]


def advice_on(losses: list[float], known: dict[str, Any] | None = None) -> list[str]:
    curve = Curve(range(1, len(losses) + 1), train_loss=losses, val_loss=losses)
    return diagnose(curve, settings=known or {"train.lr": 0.1}).advice


def test_a_loss_thrown_about_above_that_of_guessing_asks_for_a_lower_rate() -> None:
    losses = noisy(math.log(10) + 0.03, 0.02)
    found = diagnose(Curve(range(1, 11), train_loss=losses), settings={"train.lr": 3.0})
    assert (found.label, found.change) == ("underfitting", ("train.lr", 1.0))
    assert "lower train.lr from 3 towards 1" in found.advice
    assert "stays above 2.303" in found.evidence


def test_a_loss_that_falls_slowly_and_steadily_asks_for_a_higher_rate() -> None:
    losses = [2.5 - 0.004 * epoch for epoch in range(10)]
    assert "raise train.lr from 0.1 towards 0.3" in advice_on(losses)


@pytest.mark.parametrize("losses", [[2.5] * 9 + [2.499], [math.log(10)] * 10])
def test_a_constant_loss_says_nothing_about_the_rate(losses: list[float]) -> None:
    advice = advice_on(losses)
    assert advice[0] == "find a learning rate that lowers the loss: run `cnntune lr-sweep`"
    assert not any("train.lr" in line for line in advice)


def test_a_loss_far_above_that_of_guessing_with_little_noise_keeps_its_initial_value() -> None:
    curve = Curve(range(1, 11), train_loss=noisy(2.8, 0.001))
    found = diagnose(curve, settings={"train.lr": 3.0}, chance=Chance.among(10))
    assert found.label == "underfitting"
    assert not any("train.lr" in line for line in found.advice)


def test_the_sweep_is_named_with_the_command_that_trains() -> None:
    words = ["python", "my train.py", "--lr", "{train.lr}"]
    known = {
        "name": "s",
        "seed": 0,
        "command.words": words,
        "command.folder": "/home",
        "train.lr": 0.5,
    }
    losses = noisy(math.log(10) + 0.03, 0.02)
    assert any(
        line.endswith("run `cnntune lr-sweep -- python 'my train.py' --lr 0.5`")
        for line in advice_on(losses, known)
    )
    curve = Curve(range(1, 11), train_loss=losses)
    assert any(line.endswith("`cnntune lr-sweep -- COMMAND`") for line in diagnose(curve).advice)


def test_a_value_next_to_its_limit_is_not_raised() -> None:
    near = {"train.weight_decay": 0.009, "model.dropout": 0.4}
    assert not any("raise" in line for line in diagnose(OVERFITTING, settings=near).advice)
    below = diagnose(OVERFITTING, settings={"train.weight_decay": 0.003}).advice
    assert "raise train.weight_decay from 0.003 towards 0.01" in below


def test_only_a_loss_that_is_not_finite_asks_for_nan_in_the_inputs() -> None:
    finite = Curve([1, 2, 3, 4], train_loss=[2.0, 3.0, 4.0, 5.0])
    broken = replace(finite, train_loss=[2.0, 3.0, math.nan, math.nan])
    assert diagnose(finite).label == diagnose(broken).label == "unstable"
    assert not any("NaN" in line for line in diagnose(finite).advice)
    assert any("NaN" in line for line in diagnose(broken).advice)
