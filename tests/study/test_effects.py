"""Which keys make no difference: bounds by hand, and a printed table of Student's t."""

import math
from itertools import product
from pathlib import Path

import pytest

from cnntune.config.space import Choice, Range, Value
from cnntune.runs.run import Epoch, Run
from cnntune.runs.summary import Summary
from cnntune.study.effects import idle_keys, upper_bounds
from cnntune.study.trial import Trial

PLANE = {"train.lr": Range(0.0, 1.0), "train.momentum": Range(0.0, 1.0)}
GRID: list[dict[str, Value]] = [
    {"train.lr": lr, "train.momentum": momentum}
    for lr, momentum in product((0.0, 0.25, 0.5, 0.75, 1.0), repeat=2)
]


def test_without_noise_the_bound_is_the_effect_itself() -> None:
    accs = [0.9 - 0.4 * (float(one["train.lr"]) - 0.5) ** 2 for one in GRID]
    found = upper_bounds(GRID, accs, PLANE)
    assert found["train.lr"] == pytest.approx(0.1)  # from 0.9 in the middle to 0.8 at both ends
    assert found["train.momentum"] == pytest.approx(0.0, abs=1e-6)


def test_the_bound_of_two_options_is_that_of_a_t_test() -> None:
    # Ten trials each, 0.90 and 0.91 on average, all 0.02 off: the pooled variance is
    # 20 * 0.02^2 / 18, and 1.734 is the 95 % quantile of Student's t for 18 degrees of freedom.
    values: list[dict[str, Value]] = [{"model.norm": name} for name in ("batch", "group") * 10]
    accs = [mean + off for off in (0.02, -0.02) * 5 for mean in (0.90, 0.91)]
    bound = upper_bounds(values, accs, {"model.norm": Choice(("batch", "group"))})["model.norm"]
    error = math.sqrt(20 * 0.02**2 / 18 * (1 / 10 + 1 / 10))
    assert bound == pytest.approx(0.01 + 1.734 * error, abs=1e-5)


def test_an_effect_beside_good_values_of_the_other_keys_alone_is_not_averaged_away() -> None:
    # Momentum costs 8 points, but only at the best rate of five: 1.6 points on average.
    accs = [
        0.9
        - 0.1 * (1 - float(one["train.lr"]))
        - 0.08 * float(one["train.momentum"]) * (one["train.lr"] == 1.0)
        for one in GRID
    ]
    assert upper_bounds(GRID, accs, PLANE)["train.momentum"] > 0.08 / 3


def test_too_few_trials_bound_nothing() -> None:
    found = upper_bounds(GRID[:9], [0.9] * 9, PLANE)
    assert found == {"train.lr": math.inf, "train.momentum": math.inf}


def test_an_option_that_was_never_drawn_has_no_bound() -> None:
    values: list[dict[str, Value]] = [{"model.norm": name} for name in ("batch", "group") * 10]
    space = {"model.norm": Choice(("batch", "group", "layer"))}
    assert upper_bounds(values, [0.9] * 20, space) == {"model.norm": math.inf}


def trained(folder: Path, number: int, values: dict[str, Value], acc: float) -> Trial:
    run = Run(folder / f"trial-{number:04d}")
    run.begin({})
    run.log(Epoch(1, 0.1, 1.0, acc, 1.0, acc, 1.0, 1.0))
    return Trial(number, values, run, Summary("complete", 1, val_acc=acc, val_loss=1.0))


def test_a_key_is_idle_where_its_bound_is_below_the_noise(tmp_path: Path) -> None:
    trials = [
        trained(tmp_path, number, values, 0.5 + 0.4 * float(values["train.lr"]))
        for number, values in enumerate(GRID)
    ]
    assert list(idle_keys(trials, PLANE, 0.005)) == ["train.momentum"]
    assert idle_keys(trials, PLANE, None) == {}
    assert idle_keys(trials[:19], PLANE, 0.005) == {}  # no epoch that twenty have reached
