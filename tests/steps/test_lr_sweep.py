"""Step 3: verdicts on hand-made losses, what is tried next, and a real sweep on real digits."""

import math
from collections.abc import Callable

import pytest
import torch

from cnntune.config.recipe import Recipe, parse
from cnntune.data import Data
from cnntune.steps.lr_sweep import (
    CONFIRMATIONS,
    GRID,
    HIGHEST,
    LOWEST,
    RateCurve,
    Verdict,
    contenders,
    half_decades,
    judge,
    judge_rates,
    next_tries,
    over_the_grid,
    pick,
    search_range,
)
from cnntune.steps.sweep_recipe import sweep, try_rate
from cnntune.training.build import build_model, load_data

CPU = torch.device("cpu")
FIRST = 2.0  # loss before the first update, in nats

# Five losses, so that each fifth of a curve is one of them. The best rate ends at 0.5.
BEST = [FIRST, 1.5, 1.0, 0.8, 0.5]


def ending_at(lr: float, last: float, repeat: int = 0) -> RateCurve:
    """A curve that falls evenly from 2.0."""
    return RateCurve(lr, [FIRST + (last - FIRST) * step / 4 for step in range(5)], repeat)


# Drop of the best: 1.5. Flat: less than 2 % of 2.0, so 0.04. Slow: less than half of 1.5, so 0.75.
# Unstable: loses more than 15 % of its own drop again. Diverged: more than 5 % above 2.0, so 2.1.
@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([2.0, 1.8, 1.6, 1.4, 1.2], "decreasing"),  # drop 0.8
        ([2.0, 1.8, 1.6, 1.4, 1.3], "slow"),  # drop 0.7
        ([2.0, 2.0, 1.99, 1.98, 1.95], "slow"),  # drop 0.05
        ([2.0, 2.0, 1.99, 1.98, 1.97], "flat"),  # drop 0.03
        ([2.0, 2.0, 2.0, 2.0, 2.09], "flat"),
        ([2.0, 1.0, 0.5, 0.6, 0.7], "decreasing"),  # 0.2 of 1.5 is 13 %
        ([2.0, 1.0, 0.5, 0.6, 0.75], "unstable"),  # 0.25 of 1.5 is 17 %
        ([2.0, 1.9, 2.0, 2.0, 2.05], "unstable"),
        ([2.0, 1.9, 2.0, 2.0, 2.15], "diverged"),
        ([2.0, 1.0, 0.5, math.nan], "diverged"),
        ([2.0, 1.0, 0.5, math.inf], "diverged"),
        ([math.nan], "diverged"),
    ],
)
def test_a_verdict_follows_from_the_losses(losses: list[float], verdict: Verdict) -> None:
    curves = [RateCurve(0.1, BEST), RateCurve(0.01, losses)]
    assert judge_rates(curves)[0.01] == verdict


def test_a_curve_ends_at_the_mean_of_its_last_fifth() -> None:
    curve = RateCurve(0.1, [9.0, *[3.0] * 16, 1.0, 2.0, 3.0])  # 20 losses, so the last 4
    assert curve.first == 9.0
    assert curve.last == pytest.approx((3.0 + 1.0 + 2.0 + 3.0) / 4)
    assert curve.lowest == pytest.approx(2.25)


def test_noise_of_single_batches_is_not_instability() -> None:
    noisy = [2.0 - 0.015 * step + (0.3 if step % 2 else -0.3) for step in range(100)]
    assert judge_rates([RateCurve(0.1, noisy)])[0.1] == "decreasing"


def batches(first: float) -> list[float]:
    """Losses of 100 batches at unchanged weights, a wave around 2.36; the first one is drawn."""
    return [first, *(2.36 + 0.04 * math.sin(2.4 * step + 0.03 * step**1.5) for step in range(99))]


def test_rates_whose_losses_are_those_of_the_batches_are_flat_and_not_unstable() -> None:
    # The first batch is worse than the mean by more than FLAT; the lowest fifth lies lower yet.
    still = batches(2.45)
    hardly = [loss - 1e-4 * step for step, loss in enumerate(still)]  # 0.01 in all
    curves = [RateCurve(1e-5, still), RateCurve(1e-4, hardly)]
    assert curves[0].last - curves[0].lowest > 0
    assert judge_rates(curves) == {1e-5: "flat", 1e-4: "flat"}


def test_what_rises_by_more_than_the_batches_is_still_unstable() -> None:
    still = batches(2.45)
    risen = [loss - 0.02 * min(step, 80 - step / 3) for step, loss in enumerate(still)]
    falls = [loss - 0.02 * step for step, loss in enumerate(still)]
    back = [loss - (1.0 if 40 <= step < 60 else 0.5) for step, loss in enumerate(still)]
    curves = [RateCurve(1e-5, still), RateCurve(1e-2, falls), RateCurve(1e-1, back)]
    assert judge_rates(curves) == {1e-5: "flat", 1e-2: "decreasing", 1e-1: "unstable"}
    assert judge_rates([RateCurve(1e-5, still), RateCurve(1e-1, risen)])[1e-1] == "decreasing"


def test_a_low_rate_that_learns_is_no_measure_of_the_batches() -> None:
    falls = [loss - 0.01 * step for step, loss in enumerate(batches(2.45))]
    assert judge_rates([RateCurve(1e-5, falls)]) == {1e-5: "decreasing"}


def test_a_first_batch_that_is_easy_makes_no_learning_rate_diverge() -> None:
    still = [0.5, *[0.8, 0.6] * 12]  # the first batch is an easy one: 0.2 below the mean
    falls = [loss - 0.01 * step for step, loss in enumerate(still)]
    blows = [loss + 0.05 * step for step, loss in enumerate(still)]
    verdicts = judge_rates([RateCurve(1e-5, still), RateCurve(1e-2, falls), RateCurve(10, blows)])
    assert verdicts == {1e-5: "flat", 1e-2: "decreasing", 10: "diverged"}


def test_a_rate_that_fails_with_another_seed_is_unstable() -> None:
    curves = [ending_at(0.1, 0.5), RateCurve(0.1, [2.0, 3.0, 4.0, 5.0, 6.0], repeat=1)]
    assert judge_rates(curves) == {0.1: "unstable"}


def test_the_stable_rate_with_the_lowest_end_is_picked() -> None:
    lower_but_unstable = RateCurve(1.0, [2.0, 0.1, 0.1, 0.3, 0.45])
    curves = [lower_but_unstable, ending_at(0.1, 0.5), ending_at(0.01, 1.2)]
    assert pick(curves) == 0.1


def test_no_rate_is_picked_where_none_lowers_the_loss() -> None:
    flat, diverged = RateCurve(0.01, [2.0] * 5), RateCurve(0.1, [2.0, math.nan])
    assert pick([flat, diverged]) is None
    assert contenders([flat, diverged]) == []


@pytest.mark.parametrize(
    ("second", "found"),
    [(0.64, [0.1, 0.03]), (0.66, [0.1])],  # 10 % of a drop of 1.5 is 0.15
)
def test_the_second_rate_contends_where_it_comes_close(second: float, found: list[float]) -> None:
    assert contenders([ending_at(0.1, 0.5), ending_at(0.03, second)]) == found


def test_of_two_rates_that_come_close_the_lower_loss_is_picked() -> None:
    assert pick([ending_at(0.1, 0.55), ending_at(0.03, 0.50)]) == 0.03
    assert pick([ending_at(0.1, 0.50), ending_at(0.03, 0.55)]) == 0.1


def test_the_mean_over_the_seeds_decides() -> None:
    curves = [ending_at(0.1, 0.50), ending_at(0.03, 0.55)]
    assert pick(curves) == 0.1
    curves += [ending_at(0.1, 0.90, repeat=1), ending_at(0.03, 0.55, repeat=1)]  # 0.70 and 0.55
    assert pick(curves) == 0.03


@pytest.mark.parametrize(
    ("lr", "steps", "expected"),
    [(0.1, 1, 0.3), (0.3, 1, 1.0), (1.0, 1, 3.0), (0.1, -1, 0.03), (0.03, -1, 0.01), (0.1, 2, 1.0)],
)
def test_half_decades_are_ones_and_threes(lr: float, steps: int, expected: float) -> None:
    assert half_decades(lr, steps) == expected


def measured(loss_at: Callable[[float], float]) -> tuple[list[RateCurve], list[list[float]]]:
    """A whole sweep where rate `lr` ends at `loss_at(lr)`, and the rates of each round."""
    curves = [ending_at(lr, loss_at(lr)) for lr in GRID]
    rounds = []
    while todo := next_tries(curves):
        rounds.append([lr for lr, _ in todo])
        curves += [ending_at(lr, loss_at(lr), repeat) for lr, repeat in todo]
        assert len(rounds) < 20, f"the sweep does not end: {rounds}"
    return curves, rounds


def valley(best: float) -> Callable[[float], float]:
    """An end of 0.5 at the best rate, and 0.6 more for each decade from it."""
    return lambda lr: min(2.0, 0.5 + 0.6 * abs(math.log10(lr / best)))


def test_a_best_rate_inside_the_grid_gets_its_neighbours_and_then_further_seeds() -> None:
    curves, rounds = measured(valley(0.01))
    assert rounds == [[0.03, 0.003], [0.01] * CONFIRMATIONS]
    assert [curve.repeat for curve in curves[-CONFIRMATIONS:]] == [1, 2]


def test_the_sweep_goes_a_decade_beyond_an_end_that_is_best() -> None:
    assert measured(valley(1.0))[1][:2] == [[1.0], [10.0]]
    assert measured(valley(1e-6))[1][:2] == [[1e-6], [1e-7]]


def test_the_sweep_goes_down_where_every_rate_diverges() -> None:
    diverged = [RateCurve(lr, [2.0, 5.0, 9.0, 20.0, math.nan]) for lr in GRID]
    assert next_tries(diverged) == [(1e-6, 0)]
    assert measured(lambda _: 9.0)[1] == [[1e-6], [1e-7]]


@pytest.mark.parametrize("best", [1e-12, 1e9])
def test_the_sweep_stays_within_two_decades_of_the_grid(best: float) -> None:
    curves, _ = measured(lambda lr: 0.5 + 0.12 * abs(math.log10(lr / best)))
    rates = [curve.lr for curve in curves]
    assert min(rates) >= LOWEST
    assert max(rates) <= HIGHEST
    assert pick(curves) == (LOWEST if best < 1 else HIGHEST)


def test_rates_that_come_close_are_both_confirmed() -> None:
    ends = {0.1: 0.50, 0.03: 0.52, 0.01: 1.2}
    _, rounds = measured(lambda lr: ends.get(lr, 1.9))
    assert sorted(rounds[-1]) == [0.03] * CONFIRMATIONS + [0.1] * CONFIRMATIONS


def test_the_range_ends_a_half_decade_above_the_best_rate_where_that_is_stable() -> None:
    assert search_range({0.1: "decreasing", 0.3: "slow"}, 0.1) == (0.01, 0.3)
    assert search_range({0.1: "decreasing"}, 0.1) == (0.01, 0.3)
    assert search_range({0.1: "decreasing", 0.3: "unstable"}, 0.1) == (0.01, 0.1)
    assert search_range({0.1: "decreasing", 0.3: "diverged"}, 0.1) == (0.01, 0.1)


def test_a_sweep_says_which_rate_and_which_range() -> None:
    curves, _ = measured(valley(0.01))
    result = judge(curves)
    assert (result.lr, result.range) == (0.01, (0.001, 0.03))
    assert [finding.severity for finding in result.findings] == ["ok"]
    assert [curve.lr for curve in result.curves] == [0.1, 0.03, 0.01, 0.003, 0.001, 0.0001, 1e-5]


def test_a_sweep_in_which_nothing_learns_fails_and_names_every_rate() -> None:
    result = judge([RateCurve(lr, [2.0] * 5) for lr in GRID])
    assert (result.lr, result.range) == (None, None)
    (finding,) = result.findings
    assert finding.severity == "fail"
    assert all(f"{lr:.2g} flat" in finding.evidence for lr in GRID)


def test_a_sweep_that_was_repeated_with_more_iterations_is_judged_by_those() -> None:
    short = [ending_at(lr, 1.9) for lr in GRID]
    long = [RateCurve(lr, ending_at(lr, valley(0.01)(lr)).losses, iterations=300) for lr in GRID]
    assert judge(short).lr == 0.1
    result = judge([*short, *long])
    assert result.lr == 0.01
    assert {curve.iterations for curve in result.curves} == {300}


def small(**train: object) -> Recipe:
    """220 digits and a narrow network: a rate takes a third of a second."""
    return parse(
        {
            "data": {"name": "digits", "size": 220},
            "model": {"name": "small-cnn", "width": 4, "dropout": 0.3},
            "augment": {"crop": 1},
            "train": {"batch_size": 32, "precision": "float32", **train},
        },
        file="small",
    )


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data(small(), CPU)


def test_every_rate_starts_from_the_same_weights_and_sees_the_same_batches(digits: Data) -> None:
    # At rates too small to move a float32 weight, the losses are those of the batches alone.
    still, as_still, learns = (try_rate(small(), digits, CPU, lr) for lr in (1e-30, 1e-20, 0.1))
    assert still.losses == as_still.losses
    assert len(still.losses) == 100
    assert len(set(still.losses)) > 90  # another batch each time
    assert learns.first == still.first
    assert learns.last < still.last


def test_another_repeat_has_other_weights_and_batches(digits: Data) -> None:
    own, repeat = (try_rate(small(), digits, CPU, 1e-30, repeat) for repeat in (0, 1))
    assert own.first != repeat.first
    assert (own.repeat, repeat.repeat) == (0, 1)


def test_a_sweep_ignores_the_schedule_and_the_weight_decay_of_the_recipe(digits: Data) -> None:
    plain = try_rate(small(weight_decay=0.0), digits, CPU, 0.1)
    assert try_rate(small(weight_decay=10.0, schedule="cosine"), digits, CPU, 0.1) == plain


def test_a_rate_that_overflows_breaks_off(digits: Data) -> None:
    curve = try_rate(small(), digits, CPU, 1e30)
    assert len(curve.losses) < 100
    assert curve.last == math.inf
    assert judge([curve]).lr is None


@pytest.mark.parametrize(
    ("end", "iterations"),
    [(1.5, [100]), (1.7, [100, 300])],  # a drop of a fifth, 0.4, is clear
)
def test_a_sweep_without_a_clear_decrease_is_repeated_with_more_iterations(
    digits: Data, monkeypatch: pytest.MonkeyPatch, end: float, iterations: list[int]
) -> None:
    def tried(*words: object) -> RateCurve:
        lr, repeat, planned = words[3:]
        assert isinstance(lr, float)
        assert isinstance(repeat, int)
        assert isinstance(planned, int)
        losses = ending_at(lr, end if lr == 0.01 else 1.95).losses
        return RateCurve(lr, losses, repeat, planned)

    monkeypatch.setattr("cnntune.steps.sweep_recipe.try_rate", tried)
    curves = list(sweep(small(), digits, CPU))
    assert list(dict.fromkeys(curve.iterations for curve in curves)) == iterations
    assert [curve.lr for curve in curves[:5]] == list(GRID)
    assert judge(curves).lr == 0.01


def test_trying_a_rate_leaves_model_random_state_and_recipe_alone(digits: Data) -> None:
    recipe = small()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    before = build_model(recipe, digits).state_dict()
    try_rate(recipe, digits, CPU, 0.1)
    assert torch.equal(torch.get_rng_state(), state)
    after = build_model(recipe, digits).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert recipe == small()


def test_a_sweep_that_was_cut_is_judged_where_every_rate_of_the_grid_was_tried() -> None:
    grid = [RateCurve(lr, [2.0] * 100) for lr in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)]
    longer = [RateCurve(lr, [2.0] * 300, iterations=300) for lr in (1e-1, 1e-2)]
    assert over_the_grid(grid[:4]) == []
    assert over_the_grid([*grid, *longer]) == grid
