"""How much of the best accuracy is luck: known distributions of the largest of two draws."""

from dataclasses import replace
from pathlib import Path

import pytest

from cnntune.config.recipe import Recipe
from cnntune.runs.run import Run
from cnntune.runs.summary import Summary
from cnntune.steps.optimism import expected_optimism, optimism_findings
from cnntune.steps.winner import Candidate, Rival
from cnntune.study.trial import Trial


def test_the_best_by_far_was_not_lucky() -> None:
    assert expected_optimism([0.95, 0.30, 0.20], 1000) == 0.0


def test_of_two_equals_the_noise_of_the_larger_is_that_of_the_table() -> None:
    # The larger of two standard normal draws has a mean of 1 / sqrt(pi) = 0.5642. Noise of half a
    # standard error is added, and what is found is divided by 0.5^2: 0.03 * 0.5642 / 0.5.
    assert expected_optimism([0.9, 0.9], 100) == pytest.approx(0.0339, rel=0.05)


def trial(number: int, acc: float) -> Trial:
    summary = Summary("complete", 3, val_acc=acc, val_loss=1.0, val_images=1000)
    return Trial(number, {}, Run(Path(f"trial-{number:04d}")), summary)


def test_the_luck_of_the_images_and_that_of_the_seed_are_told_apart() -> None:
    trials = [trial(0, 0.95), *(trial(number, 0.3) for number in range(1, 10))]
    best = Candidate(Rival(trials[0], Recipe(name="test")), 2, [0.93, 0.94])
    (found,) = optimism_findings(trials, [best], 1000)
    assert (found.rule, found.severity, found.measured) == ("optimism", "info", 0.0)
    assert found.evidence == (
        "0.9500 is the best of 10 trials on 1,000 validation images: about 0.00 points of it are"
        " expected to be luck; trained the best again, accuracy fell by 1.50 points on the same"
        " images"
    )
    assert "cnntune train" in found.advice
    better = Candidate(Rival(trials[0], Recipe(name="test")), 2, [0.96, 0.97])
    assert "accuracy rose by 1.50 points" in optimism_findings(trials, [better], 1000)[0].evidence


def test_few_trials_losses_and_uncounted_images_say_nothing() -> None:
    best = Candidate(Rival(trial(0, 0.9), Recipe(name="test")), 0)
    trials = [trial(number, 0.9) for number in range(10)]
    assert optimism_findings(trials, [best], 1000)
    assert optimism_findings(trials[:9], [best], 1000) == []
    assert optimism_findings(trials, [best], None) == []
    assert optimism_findings(trials, [], 1000) == []
    losses = [replace(t, summary=replace(t.summary, val_acc=None)) for t in trials]
    assert optimism_findings(losses, [best], 1000) == []
