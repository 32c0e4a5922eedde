"""Search spaces: draws that depend on (seed, slot, key) alone, narrowing, edges."""

import math
import subprocess
import sys
import tomllib

import pytest

from cnntune.config.space import (
    Choice,
    Dimension,
    Range,
    draw,
    edges,
    hull,
    narrow,
    parse_dimension,
    toml,
)

LR = Range(1e-4, 1e-1, log=True)
DROPOUT = Range(0.0, 0.5)
WIDTH = Range(8, 64, integer=True)
NORM = Choice(("batch", "layer", "none"))
SPACE: dict[str, Dimension] = {
    "train.lr": LR,
    "model.dropout": DROPOUT,
    "model.width": WIDTH,
    "model.norm": NORM,
}
DRAWS = 2000


def column(key: str) -> list[float]:
    return [float(draw(SPACE, seed=0, slot=slot)[key]) for slot in range(DRAWS)]


def shares(positions: list[float], bins: int = 10) -> list[float]:
    counts = [0] * bins
    for position in positions:
        counts[min(int(position * bins), bins - 1)] += 1
    return [count / len(positions) for count in counts]


# Draws


def test_a_slot_is_drawn_the_same_every_time() -> None:
    assert draw(SPACE, seed=3, slot=7) == draw(SPACE, seed=3, slot=7)


def test_a_slot_is_drawn_the_same_in_another_process() -> None:
    code = (
        "from cnntune.config.space import Range, draw;"
        "print(draw({'train.lr': Range(1e-4, 1e-1, log=True)}, seed=3, slot=7)['train.lr'])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(other.stdout) == draw(SPACE, seed=3, slot=7)["train.lr"]


def test_another_seed_or_slot_draws_other_values() -> None:
    drawn = {
        (seed, slot): draw({"train.lr": LR}, seed=seed, slot=slot)["train.lr"]
        for seed in range(10)
        for slot in range(10)
    }
    assert len(set(drawn.values())) > 95  # of 100; four digits leave room for a few pairs


def test_a_new_key_leaves_the_draws_of_the_others_as_they_were() -> None:
    alone = draw({"train.lr": LR}, seed=0, slot=5)["train.lr"]
    reordered = dict(reversed(SPACE.items()))
    assert draw(SPACE, seed=0, slot=5)["train.lr"] == alone
    assert draw(reordered, seed=0, slot=5)["train.lr"] == alone


def test_two_keys_with_one_range_are_drawn_apart() -> None:
    space = {"a": DROPOUT, "b": DROPOUT}
    both = [draw(space, seed=0, slot=slot) for slot in range(50)]
    assert sum(values["a"] == values["b"] for values in both) <= 2


def test_draws_stay_within_their_bounds() -> None:
    assert all(1e-4 <= value <= 1e-1 for value in column("train.lr"))
    assert all(0 <= value <= 0.5 for value in column("model.dropout"))
    assert all(8 <= value <= 64 and value == int(value) for value in column("model.width"))


def test_a_whole_number_is_drawn_as_an_int() -> None:
    assert isinstance(draw(SPACE, seed=0, slot=0)["model.width"], int)


def test_two_thousand_draws_are_uniform_in_the_logarithm() -> None:
    positions = [math.log10(value / 1e-4) / 3 for value in column("train.lr")]
    # A bin of 200 +- 13.4 draws; 0.03 is 4.5 standard deviations.
    assert all(abs(share - 0.1) < 0.03 for share in shares(positions))


def test_two_thousand_draws_are_uniform_in_value_where_no_logarithm_is_asked_for() -> None:
    assert all(
        abs(share - 0.1) < 0.03
        for share in shares([value / 0.5 for value in column("model.dropout")])
    )


def test_every_option_is_drawn_about_as_often() -> None:
    drawn = [draw(SPACE, seed=0, slot=slot)["model.norm"] for slot in range(DRAWS)]
    # A third of 2000 is 667 +- 21.
    assert all(abs(drawn.count(option) - 667) < 100 for option in NORM.options)


def test_draws_of_two_keys_are_not_correlated() -> None:
    x = [math.log(value) for value in column("train.lr")]
    y = column("model.dropout")
    mean_x, mean_y = sum(x) / DRAWS, sum(y) / DRAWS
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    spread = math.sqrt(sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y))
    assert abs(covariance / spread) < 0.1  # 4.5 times 1 / sqrt(2000)


def test_a_drawn_number_is_the_number_that_is_printed() -> None:
    assert all(float(f"{value:.4g}") == value for value in column("train.lr"))


def test_positions_are_hand_arithmetic() -> None:
    assert LR.at(0.0) == 1e-4
    assert LR.at(1.0) == 1e-1
    assert LR.at(1 / 3) == 1e-3
    assert LR.position(1e-2) == pytest.approx(2 / 3)
    assert DROPOUT.at(0.5) == 0.25
    assert WIDTH.at(0.5) == 36
    assert [NORM.at(p) for p in (0.0, 0.3, 0.34, 0.99, 1.0)] == [
        "batch",
        "batch",
        "layer",
        "none",
        "none",
    ]


# Narrowing


def test_narrowing_keeps_what_the_strong_span_and_a_tenth_on_both_sides() -> None:
    # 1e-3 and 1e-2 lie at 1/3 and 2/3 of three decades; a tenth of the range is 0.3 decades.
    narrowed = narrow({"train.lr": LR}, [{"train.lr": 1e-3}, {"train.lr": 1e-2}])["train.lr"]
    assert isinstance(narrowed, Range)
    assert narrowed.log
    assert narrowed.low == pytest.approx(10**-3.3, rel=1e-3)
    assert narrowed.high == pytest.approx(10**-1.7, rel=1e-3)


def test_narrowing_never_leaves_the_old_range() -> None:
    assert narrow({"d": DROPOUT}, [{"d": 0.0}, {"d": 0.5}]) == {"d": DROPOUT}
    assert narrow({"d": DROPOUT}, [{"d": 0.02}]) == {"d": Range(0.0, 0.07)}


def test_a_choice_keeps_what_the_strong_chose_in_the_order_of_the_recipe() -> None:
    narrowed = narrow({"n": NORM}, [{"n": "none"}, {"n": "batch"}, {"n": "none"}])
    assert narrowed == {"n": Choice(("batch", "none"))}


def test_without_strong_trials_nothing_is_narrowed() -> None:
    assert narrow(SPACE, []) == SPACE
    assert narrow(SPACE, [{}]) == SPACE


def test_a_narrowed_range_of_whole_numbers_can_be_written_and_read_again() -> None:
    # 2 lies at a third of 1 ... 4; a tenth to both sides is 1.7 ... 2.3.
    narrowed = narrow({"model.depth": Range(1, 4, integer=True)}, [{"model.depth": 2}])
    assert parse_dimension(narrowed["model.depth"].as_toml())


@pytest.mark.parametrize(
    "dimension", [LR, DROPOUT, NORM, WIDTH, Range(8, 64), Choice((True, 1, "a"))]
)
def test_a_dimension_written_and_read_again_is_the_same(dimension: Dimension) -> None:
    assert parse_dimension(dimension.as_toml()) == dimension


# Edges


@pytest.mark.parametrize(
    ("value", "side", "low", "high"),
    [
        (1e-4, "lower", 1e-5, 1e-1),
        (1.9e-4, "lower", 1e-5, 1e-1),  # within 0.3 decades of the end
        (6e-2, "upper", 1e-4, 1.0),
        (1e-1, "upper", 1e-4, 1.0),
    ],
)
def test_a_best_rate_at_an_edge_proposes_a_decade_more(
    value: float, side: str, low: float, high: float
) -> None:
    (edge,) = edges({"train.lr": LR}, {"train.lr": value})
    assert (edge.key, edge.value, edge.side) == ("train.lr", value, side)
    assert edge.wider == Range(low, high, log=True)
    assert edge.beyond == (low if side == "lower" else high)


def test_a_value_that_a_later_round_went_beyond_is_no_edge_of_all_that_was_searched() -> None:
    searched: dict[str, Range | Choice] = {"train.lr": LR, "batch": Choice((16, 32))}
    top = LR.high
    assert edges(hull([searched]), {"train.lr": top})
    later = {"train.lr": Range(top / 2, 100 * top, log=True), "model.dropout": Range(0.0, 0.5)}
    whole = hull([searched, later, {"train.lr": Choice((top,))}])
    assert whole == {"train.lr": Range(LR.low, 100 * top, log=True), "batch": Choice((16, 32))}
    assert not edges(whole, {"train.lr": top})
    assert hull([]) == {}


def test_a_best_value_inside_is_no_edge() -> None:
    assert edges({"train.lr": LR}, {"train.lr": 3e-3}) == []
    assert edges({"train.lr": LR}, {"train.lr": 2.1e-4}) == []


def test_a_choice_has_no_edge_and_a_missing_value_none_either() -> None:
    assert edges({"n": NORM, "train.lr": LR}, {"n": "batch"}) == []


def test_a_linear_range_widens_by_half() -> None:
    (edge,) = edges({"d": DROPOUT}, {"d": 0.5})
    assert edge.wider == Range(0.0, 0.75)


def test_a_wider_range_of_whole_numbers_has_the_ends_that_it_says() -> None:
    (edge,) = edges({"b": Range(16, 256, log=True, integer=True)}, {"b": 16})
    written = edge.wider.as_toml()["log"]
    assert written[0] == edge.beyond == edge.wider.low


def test_no_best_value_is_at_an_edge_of_a_single_point() -> None:
    assert edges({"d": Range(0.1, 0.1)}, {"d": 0.1}) == []


# Writing


@pytest.mark.parametrize(
    ("dimension", "written"),
    [
        (LR, "{ log = [0.0001, 0.1] }"),
        (WIDTH, "{ uniform = [8, 64] }"),
        (Choice((64, 128)), "{ choice = [64, 128] }"),
        (Choice(("sgd", "adam")), '{ choice = ["sgd", "adam"] }'),
        (Choice((True, False)), "{ choice = [true, false] }"),
        (Range(1e-6, 1e-2, log=True), "{ log = [1e-06, 0.01] }"),
    ],
)
def test_a_dimension_is_written_as_it_is_typed(dimension: Dimension, written: str) -> None:
    assert toml(dimension) == written
    assert parse_dimension(tomllib.loads(f"x = {written}")["x"]).as_toml() == dimension.as_toml()


def test_what_is_typed_means_the_same_numbers() -> None:
    dimension = Range(0.12345678, 1234567.0)
    assert parse_dimension(tomllib.loads(f"x = {toml(dimension)}")["x"]) == dimension
