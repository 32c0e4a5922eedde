"""`--sampler grid`: every point once, in an order that is the same each time and lists nothing."""

import random
from itertools import product
from pathlib import Path

import pytest
from commands import call

from cnntune.config.space import Choice, Dimension, Range, Value
from cnntune.runs.study import Study
from cnntune.seeds import derive_seed
from cnntune.study import samplers
from cnntune.study.ledger import Ledger
from cnntune.study.samplers import grid_point, grid_size, shuffled

LR, WIDTH = (0.1, 0.05, 0.01), (2, 4)
SPACE: dict[str, Dimension] = {"train.lr": Choice(LR), "model.width": Choice(WIDTH)}
POINTS = {(lr, width) for lr in LR for width in WIDTH}
TWELVE: dict[str, Dimension] = {f"key{number}": Range(0.0, 1.0) for number in range(12)}

TOML = """
name = "small"
[data]
name = "digits"
size = 100
[train]
batch_size = 64
[search]
epochs = 1
sampler = "grid"
[space]
train.lr = { choice = [0.1, 0.05, 0.01] }
model.width = { choice = [2, 4] }
"""


def points(space: dict[str, Dimension], slots: range, seed: int = 0) -> list[tuple[Value, ...]]:
    return [tuple(grid_point(space, seed=seed, slot=slot).values()) for slot in slots]


def test_every_point_of_a_grid_comes_once() -> None:
    assert grid_size(SPACE) == 6
    assert set(points(SPACE, range(6))) == POINTS


def test_a_range_has_five_levels_its_ends_included_and_whole_numbers_fewer() -> None:
    space: dict[str, Dimension] = {
        "train.momentum": Range(0.0, 0.8),
        "model.depth": Range(1, 2, integer=True),
    }
    assert grid_size(space) == 10
    expected = {(at, depth) for at in (0.0, 0.2, 0.4, 0.6, 0.8) for depth in (1, 2)}
    assert set(points(space, range(10))) == expected


def test_a_grid_has_the_order_that_it_had_when_it_was_listed() -> None:
    listed = list(product(LR, WIDTH))
    random.Random(derive_seed(7, "grid")).shuffle(listed)
    assert points(SPACE, range(6), seed=7) == listed


def test_244_million_points_are_drawn_from_without_being_listed() -> None:
    assert grid_size(TWELVE) == 244_140_625  # 5 ** 12
    drawn = points(TWELVE, range(300))
    assert len(set(drawn)) == 300
    # Each of five levels is due 60 times, and 60 +- 7 are one standard deviation.
    assert all(
        30 < [p[0] for p in drawn].count(level) < 90 for level in (0.0, 0.25, 0.5, 0.75, 1.0)
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 1000])
def test_a_shuffle_without_a_list_puts_each_place_somewhere_else(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "LISTED", 0)
    for seed in (0, 1):
        assert sorted(shuffled(index, size, seed) for index in range(size)) == list(range(size))


@pytest.mark.parametrize("at", range(6))
def test_a_given_point_that_lies_on_the_grid_is_not_drawn_again(at: int) -> None:
    given = [grid_point(SPACE, seed=0, slot=at)]
    drawn = [grid_point(SPACE, seed=0, slot=slot, given=given) for slot in range(1, 6)]
    assert {tuple(point.values()) for point in [*given, *drawn]} == POINTS


def trained(folder: Path) -> list[tuple[Value, ...]]:
    ledger = Ledger.open(Study(folder / "runs/small"))
    return [tuple(trial.values.values()) for trial in ledger.trials()]


@pytest.mark.slow
def test_a_search_ends_with_the_grid_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(TOML)
    first = call("search", "small.toml", "--budget", "2", "--json", cwd=tmp_path)
    assert "grid" not in [finding["rule"] for finding in first.document["findings"]]
    begun = trained(tmp_path)
    outcome = call("search", "small.toml", "--budget", "50", "--json", cwd=tmp_path)
    (said,) = [f for f in outcome.document["findings"] if f["rule"] == "grid"]
    assert said["evidence"] == "the grid has 6 points: 6 trials instead of 50"
    assert "the grid has 6 points" in outcome.err
    assert trained(tmp_path)[:2] == begun
    assert len(trained(tmp_path)) == 6
    assert set(trained(tmp_path)) == POINTS


def test_a_study_whose_grid_was_ordered_otherwise_is_not_searched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.toml").write_text(TOML)
    call("search", "small.toml", "--budget", "1", "--json", cwd=tmp_path)
    monkeypatch.setattr(samplers, "LISTED", 0)
    outcome = call("search", "small.toml", "--budget", "2", "--json", cwd=tmp_path)
    assert outcome.code == 2
    (line,) = outcome.document["errors"]
    assert "an earlier version ordered its grid differently" in line
    assert len(trained(tmp_path)) == 1
    assert call("report", "--json", cwd=tmp_path).code == 0
