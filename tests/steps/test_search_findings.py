"""What a search says of regions and of further trials; expected values by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from cnntune.config.recipe import Recipe
from cnntune.runs.run import Epoch, Run
from cnntune.runs.summary import Status, Summary
from cnntune.steps.search_findings import (
    bests_of,
    edge_findings,
    expected_best,
    importance_findings,
    nothing_learned,
    region_findings,
    strong,
    trial_findings,
    worth_findings,
)
from cnntune.study.trial import Trial
from cnntune.training.open_recipe import load_recipe


def trial(number: int, acc: float, lr: float = 0.01, status: Status = "complete") -> Trial:
    summary = Summary(status, 3, val_acc=acc, val_loss=1.0)
    return Trial(number, {"train.lr": lr}, Run(Path(f"trial-{number:04d}")), summary)


@pytest.fixture
def recipe() -> Recipe:
    found = load_recipe("digits", ["space.train.lr={log=[1e-4, 1.0]}"])
    return found.model_copy(update={"space": {"train.lr": found.space["train.lr"]}})


def test_the_expected_best_of_some_of_four_values() -> None:
    # Of the six pairs of 0, 1, 2, 3 the best is 3 in three, 2 in two and 1 in one.
    assert expected_best([2.0, 0.0, 3.0, 1.0], 2) == pytest.approx((3 * 3 + 2 * 2 + 1) / 6)
    assert expected_best([2.0, 0.0, 3.0, 1.0], 4) == 3.0
    assert expected_best([2.0, 0.0, 3.0, 1.0], 1) == pytest.approx(1.5)


def test_the_last_half_was_worth_its_mean_gain_over_all_orders() -> None:
    # One trial of ten has 0.8, the others 0.2: it is in the last half of half of the orders.
    trials = [trial(n, 0.8 if n == 0 else 0.2) for n in range(10)]
    (finding,) = worth_findings(trials)
    assert finding.measured == pytest.approx(0.3)
    assert finding.evidence == (
        "the last 5 of 10 trials raised the best accuracy by 30.00 points, on average over all"
        " orders of them; 10 more like these usually gain less"
    )


def test_of_a_sampler_that_learns_the_order_counts() -> None:
    early = [trial(n, 0.8 if n == 4 else 0.2) for n in range(10)]
    late = [trial(n, 0.8 if n == 5 else 0.2) for n in range(10)]
    assert worth_findings(early, in_order=True)[0].measured == 0.0
    assert worth_findings(late, in_order=True)[0].measured == pytest.approx(0.6)


def test_diverged_trials_were_worth_nothing_and_count() -> None:
    # One of ten has 0.8, nine diverged: the first five hold it in half of the orders.
    trials = [trial(0, 0.8), *(trial(n, 0.5, status="diverged") for n in range(1, 10))]
    assert worth_findings(trials)[0].measured == pytest.approx(0.4)


def test_the_error_of_the_images_stands_beside_the_worth() -> None:
    trials = [trial(n, 0.9) for n in range(10)]
    counted = [replace(t, summary=replace(t.summary, val_images=100)) for t in trials]
    (finding,) = worth_findings(counted)
    assert finding.evidence.endswith("(standard error of an accuracy on 100 images: 3.00)")


def test_few_trials_say_nothing_of_more() -> None:
    assert worth_findings([trial(n, 0.5) for n in range(9)]) == []


def test_strong_trials_are_a_fifth_and_whole_runs_come_before_pruned_ones() -> None:
    trials = [trial(n, 0.9, status="pruned") for n in range(18)] + [
        trial(18, 0.5),
        trial(19, 0.6),
    ]
    assert [t.number for t in strong(trials)] == [19, 18, 0, 1]


def test_a_region_is_named_where_the_strong_trials_keep_together(recipe: Recipe) -> None:
    # Strong ones at 0.01 ... 0.1, a quarter of four decades, and a tenth of the range on each side.
    trials = [trial(n, 0.9, lr) for n, lr in enumerate((0.01, 0.03, 0.1))]
    trials += [trial(n, 0.1, 1e-4) for n in range(3, 15)]
    (finding,) = region_findings(recipe, trials)
    assert finding.measured == pytest.approx(0.25 + 0.2, abs=0.001)
    override = finding.advice.partition("--set '")[2].rstrip("'")
    assert str(load_recipe("digits", [override]).space["train.lr"]) == "0.00398 ... 0.251 (log)"


def test_no_region_is_named_where_the_strong_trials_lie_apart(recipe: Recipe) -> None:
    trials = [trial(n, 0.9, lr) for n, lr in enumerate((1e-4, 0.03, 1.0))]
    trials += [trial(n, 0.1, 1e-3) for n in range(3, 15)]
    assert region_findings(recipe, trials) == []


def test_an_edge_holds_for_all_that_are_the_best(recipe: Recipe) -> None:
    # 1e-4 and 1.0 are the ends of the range, 0.01 is its middle
    upper, middle = trial(0, 0.9, 1.0), trial(1, 0.9, 0.01)
    assert edge_findings(recipe, bests_of([upper, middle])) == []
    (finding,) = edge_findings(recipe, bests_of([upper, trial(1, 0.9, 0.9), trial(2, 0.8, 0.01)]))
    assert "is at the upper end of its range" in finding.evidence


@pytest.mark.parametrize(("lr", "place"), [(1e-5, "below"), (3.0, "above")])
def test_a_value_outside_of_its_range_lies_at_no_end_of_it(
    recipe: Recipe, lr: float, place: str
) -> None:
    (finding,) = edge_findings(recipe, [trial(0, 0.9, lr)])
    assert f"is {place} its range" in finding.evidence
    override = finding.advice.partition("--set '")[2].rstrip("'")
    wider = load_recipe("digits", [override]).space["train.lr"]
    assert wider.low < lr < wider.high  # type: ignore[union-attr]


def at_chance(number: int, acc: float) -> Trial:
    known = trial(number, acc)
    chance = replace(known.summary, chance_acc=0.1, chance_loss=2.3026, val_images=100)
    return replace(known, summary=chance)


def test_nothing_is_learned_where_the_best_is_within_the_noise_of_guessing() -> None:
    # three standard errors of 0.1 on 100 images are 3 sqrt(0.1 * 0.9 / 100) = 0.09
    (finding,) = nothing_learned([at_chance(0, 0.12), at_chance(1, 0.18)])
    assert (finding.severity, finding.measured, finding.expected) == ("fail", 0.18, 0.1)
    assert "the best of 2 trials" in finding.evidence
    assert nothing_learned([at_chance(0, 0.12), at_chance(1, 0.2)]) == []
    assert importance_findings([at_chance(0, 0.12)], None) == []


def test_one_trial_is_not_plural(tmp_path: Path) -> None:
    failed = trial(0, 0.5, status="failed")
    assert "1 of 1 trial failed" in trial_findings([failed])[0].evidence
    run = Run(tmp_path)
    run.begin({})
    run.log(Epoch(1, 0.01, 1.0, 0.5, 1.0, 0.5, 1.0, 1.0))
    summary = Summary("complete", 1, val_acc=0.5, val_loss=1.0)
    whole = Trial(0, {"train.lr": 0.01}, run, summary)
    assert "1 trial is too few" in importance_findings([whole], None)[0].evidence
