"""Learning-rate schedules, by hand arithmetic and against torch."""

import pytest
import torch

from cnntune.training.schedule import Schedule, rate_factor


def factors(schedule: Schedule, steps: int, warmup: int = 0) -> list[float]:
    return [rate_factor(schedule, step, steps, warmup) for step in range(steps)]


def test_constant_stays_at_the_recipes_rate() -> None:
    assert factors("constant", 5) == [1.0] * 5


def test_cosine_falls_from_one_past_a_half_towards_zero() -> None:
    # 0.5 (1 + cos(pi k / 6)) for k = 0 ... 5; cos 30 degrees is 0.8660254.
    assert factors("cosine", 6) == pytest.approx(
        [1.0, 0.9330127, 0.75, 0.5, 0.25, 0.0669873], abs=1e-7
    )


def test_step_divides_by_ten_at_a_half_and_at_three_quarters() -> None:
    expected = [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    assert factors("step", 8) == pytest.approx(expected)


def test_warm_up_rises_linearly_to_one_at_its_last_step() -> None:
    assert factors("constant", 6, warmup=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_schedule_runs_over_the_steps_after_the_warm_up() -> None:
    assert factors("cosine", 6, warmup=2) == pytest.approx(
        [0.5, 1.0, 1.0, 0.8535534, 0.5, 0.1464466], abs=1e-7
    )
    assert factors("step", 6, warmup=2) == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.1, 0.01])


@pytest.mark.parametrize("steps", [10, 70, 1000])
def test_one_cycle_is_torchs_one_cycle(steps: int) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, cycle_momentum=False
    )
    expected = []
    for _ in range(steps - 1):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    expected.append(optimizer.param_groups[0]["lr"])
    assert factors("one-cycle", steps) == pytest.approx(expected, abs=1e-6)


def test_one_cycle_starts_at_a_25th_and_ends_at_almost_nothing() -> None:
    run = factors("one-cycle", 100)
    assert run[0] == pytest.approx(0.04)
    assert run[29] == pytest.approx(1.0)  # 30 % of 100 steps, counted from 0
    assert run[-1] == pytest.approx(4e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "one-cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_shortest_runs_have_rates_between_zero_and_one(schedule: Schedule, steps: int) -> None:
    assert all(0 < factor <= 1 for factor in factors(schedule, steps))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_a_run_that_is_all_warm_up_ends_at_one(schedule: Schedule) -> None:
    assert factors(schedule, 2, warmup=2) == [0.5, 1.0]
