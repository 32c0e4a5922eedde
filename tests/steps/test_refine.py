"""Step 5: which trials are strong, how the space narrows, and when the best is really better."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnntune.config.recipe import Recipe, parse
from cnntune.config.space import Choice, Range
from cnntune.errors import StudyError
from cnntune.runs.run import Run
from cnntune.runs.study import Study
from cnntune.runs.summary import Status, Summary
from cnntune.steps.refine import begin, longer_epochs, next_round, plan, strong_trials
from cnntune.steps.search_findings import edge_findings
from cnntune.study.ledger import Ledger
from cnntune.study.trial import Trial
from cnntune.training.open_recipe import argument_problems, load_recipe

STUDY = Path("runs/digits")


def trial(number: int, val_acc: float, val_loss: float = 1.0, **values: Any) -> Trial:
    summary = Summary("complete", val_acc=val_acc, val_loss=val_loss)
    named = {key.replace("__", "."): value for key, value in values.items()}
    return Trial(number, named, Run(Path(f"trial-{number:04d}")), summary)


def unfit(number: int, status: Status) -> Trial:
    return Trial(number, {}, Run(Path("nowhere")), Summary(status))


def recipe(space: dict[str, Any] | None = None, **train: Any) -> Recipe:
    values = {"train": train, "search": {"epochs": 2}, "space": space or {}}
    return parse(values, file="test", check_arguments=argument_problems)


def numbers(found: list[Trial]) -> list[int]:
    return [trial.number for trial in found]


@pytest.mark.parametrize(
    ("complete", "strong"),
    [(1, 1), (2, 2), (3, 3), (15, 3), (18, 4), (20, 4), (50, 10)],  # a fifth, and at least three
)
def test_the_best_fifth_of_the_trials_is_strong(complete: int, strong: int) -> None:
    trials = [trial(number, val_acc=number / 100) for number in range(complete)]
    best_first = list(range(complete))[::-1]
    assert numbers(strong_trials(trials, STUDY)) == best_first[:strong]


def test_equal_accuracies_are_ordered_by_loss() -> None:
    trials = [trial(0, 0.9, 0.4), trial(1, 0.9, 0.3), trial(2, 0.8, 0.1)]
    assert numbers(strong_trials(trials, STUDY)) == [1, 0, 2]


def test_trials_that_diverged_failed_or_still_run_are_not_strong() -> None:
    trials = [unfit(0, "diverged"), trial(1, 0.1), unfit(2, "failed"), unfit(3, "running")]
    assert numbers(strong_trials(trials, STUDY)) == [1]


def test_without_a_complete_trial_there_is_nothing_to_refine() -> None:
    with pytest.raises(StudyError, match=r"^runs/digits: there is no complete trial"):
        strong_trials([unfit(0, "diverged"), unfit(1, "failed")], STUDY)


def test_where_nothing_was_learned_there_is_nothing_to_refine_and_the_study_is_named() -> None:
    luck = trial(0, 0.12)
    summary = replace(luck.summary, chance_acc=0.1, chance_loss=2.3026, val_images=100)
    at_chance = replace(luck, summary=summary)
    with pytest.raises(StudyError, match=r"^runs/digits: nothing was learned to refine: "):
        strong_trials([at_chance], STUDY)


def test_the_space_narrows_to_the_strong_values_and_a_tenth_on_both_sides() -> None:
    # 1e-3 and 1e-2 lie at 1/3 and 2/3 of 1e-4 ... 1e-1, so the new ends lie at 7/30 and 23/30:
    # 10^(-4 + 0.7) = 5.012e-4 and 10^(-4 + 2.3) = 1.995e-2.
    before = recipe({"train.lr": {"log": [1e-4, 1e-1]}, "train.momentum": {"uniform": [0.0, 0.9]}})
    strong = [
        trial(0, 0.9, train__lr=1e-3, train__momentum=0.0),
        trial(1, 0.8, train__lr=1e-2, train__momentum=0.3),
    ]
    space = plan(before, strong, 20, {})[0].space
    lr, momentum = space["train.lr"], space["train.momentum"]
    assert isinstance(lr, Range)
    assert isinstance(momentum, Range)
    assert (lr.low, lr.high, lr.log) == (5.012e-4, 1.995e-2, True)
    assert (momentum.low, momentum.high) == (0.0, 0.39)  # never beyond the old ends


def test_a_choice_keeps_what_the_strong_trials_chose() -> None:
    before = recipe({"train.batch_size": {"choice": [32, 64, 128, 256]}})
    strong = [trial(0, 0.9, train__batch_size=128), trial(1, 0.8, train__batch_size=32)]
    assert plan(before, strong, 20, {})[0].space == {"train.batch_size": Choice((32, 128))}


def test_a_key_that_the_best_trial_did_not_draw_keeps_the_value_that_it_was_trained_with() -> None:
    # The first trial of a round repeats the best before, from when these keys were not searched.
    before = recipe(
        {
            "train.label_smoothing": {"uniform": [0.0, 0.2]},
            "model.dropout": {"uniform": [0.0, 0.5]},
            "train.weight_decay": {"log": [1e-5, 1e-3]},
            "augment.crop": {"choice": [0, 2, 4]},
        },
        weight_decay=0,
    )
    drawn = {"train__label_smoothing": 0.19, "model__dropout": 0.25, "augment__crop": 4}
    strong = [trial(0, 0.93), trial(1, 0.91, train__weight_decay=1e-4, **drawn)]
    space = plan(before, strong, 20, {})[0].space
    smoothing, dropout, decay = (
        space[key] for key in ("train.label_smoothing", "model.dropout", "train.weight_decay")
    )
    assert isinstance(smoothing, Range)
    assert isinstance(dropout, Range)
    assert isinstance(decay, Range)
    assert (smoothing.low, smoothing.high) == (0.0, 0.2)  # the best was trained with 0
    assert (dropout.low, dropout.high) == (0.0, 0.3)  # 0 is the default of the network
    assert decay.low == 1e-5  # a logarithm has no 0: the end next to it stays
    assert space["augment.crop"] == Choice((0, 4))


def test_a_choice_without_the_strong_value_stays_whole() -> None:
    before = recipe({"augment.crop": {"choice": [2, 4]}})
    assert plan(before, [trial(0, 0.9)], 20, {})[0].space == {"augment.crop": Choice((2, 4))}


@pytest.mark.parametrize(("train_epochs", "expected"), [(20, 20), (3, 3), (1, 2)])
def test_a_refinement_trains_for_the_recipes_epochs_and_never_less_than_the_search(
    train_epochs: int, expected: int
) -> None:
    assert longer_epochs(recipe(epochs=train_epochs)) == expected


def test_a_refinement_trains_longer() -> None:
    planned = plan(recipe(), [trial(0, 0.9)], 7, {})[0]
    assert (planned.train.epochs, planned.search.epochs) == (7, 7)


def test_a_refinement_prunes_nothing_that_the_best_could_be_lost_by() -> None:
    before = parse({"search": {"epochs": 9, "pruner": "halving"}}, file="test")
    assert plan(before, [trial(0, 0.9)], 20, {})[0].search.pruner == "none"


@pytest.mark.parametrize(("epochs", "warmup"), [(20, 2.0), (10, 1.0), (9, 0.0)])
def test_a_refinement_decays_the_rate_after_a_warm_up_of_a_tenth(
    epochs: int, warmup: float
) -> None:
    train = plan(recipe(), [trial(0, 0.9)], epochs, {})[0].train
    assert (train.schedule, train.warmup_epochs) == ("cosine", warmup)


def test_a_refinement_keeps_a_schedule_that_was_chosen() -> None:
    assert plan(recipe(schedule="step"), [trial(0, 0.9)], 20, {})[0].train.schedule == "step"


def test_a_refinement_keeps_the_schedule_where_it_is_searched_over() -> None:
    before = recipe({"train.schedule": {"choice": ["constant", "step"]}})
    planned = plan(before, [trial(0, 0.9, train__schedule="step")], 20, {})[0]
    assert (planned.train.schedule, planned.train.warmup_epochs) == ("constant", 0.0)


def finished(study: Study, label: str, **summary: Any) -> None:
    study.run(label).finish({"status": "complete", **summary})


def test_an_unfinished_refinement_is_taken_up_and_a_finished_one_is_refined(tmp_path: Path) -> None:
    study, first, second = (Study(tmp_path / path) for path in ("", "refine-1", "refine-2"))
    assert next_round(study) == (study, first)
    first.path.mkdir()
    assert next_round(study) == (study, first)
    first.write("refine", {})
    assert next_round(study) == (first, second)


def test_an_unfinished_refinement_keeps_its_epochs(tmp_path: Path) -> None:
    study, asked = Study(tmp_path / "mine"), recipe({"train.lr": {"log": [1e-3, 1e-1]}})
    with study.lock():
        ledger = Ledger.create(study, asked, asked=asked)
        ledger.begin(asked.space, {"train.lr": 0.01})
        ledger.tell(0, Summary("complete", val_acc=0.5))
        finished(study, "trial-0000", val_acc=0.5, val_loss=1.0, epochs=2)
        first = begin(study, 6, 4)
        Ledger.create(first.study, first.recipe, asked=first.recipe)
    assert begin(study, 6, 4).recipe == begin(study, None, 4).recipe == first.recipe
    with pytest.raises(StudyError, match="--epochs 6"):
        begin(study, 8, 4)


def edge_of(key: str, dimension: dict[str, Any], value: float) -> list[str]:
    """The ends at which the best `value` is said to lie."""
    found = edge_findings(recipe({key: dimension}), [trial(0, 0.9, **{key: value})])
    return ["lower" if "lower" in finding.evidence else "upper" for finding in found]


@pytest.mark.parametrize(
    ("key", "dimension", "value", "ends"),
    [
        ("train.lr", {"log": [1e-4, 1e-1]}, 0.09, ["upper"]),
        ("train.lr", {"log": [1e-4, 1e-1]}, 1.1e-4, ["lower"]),
        ("train.lr", {"log": [1e-4, 1e-1]}, 3e-3, []),
        ("model.dropout", {"uniform": [0.0, 0.5]}, 0.49, ["upper"]),  # 0.75 is allowed
        ("model.dropout", {"uniform": [0.0, 0.5]}, 0.01, []),  # below 0 is not
        ("model.dropout", {"uniform": [0.0, 0.9]}, 0.89, []),  # nor is 1.35
        ("model.width", {"uniform": [8, 32]}, 32, ["upper"]),
        ("model.width", {"uniform": [1, 32]}, 1, []),
        ("train.batch_size", {"choice": [32, 64]}, 64, []),  # a choice has no end
    ],
)
def test_an_edge_is_reported_where_the_recipe_allows_more(
    key: str, dimension: dict[str, Any], value: float, ends: list[str]
) -> None:
    assert edge_of(key, dimension, value) == ends


@pytest.mark.parametrize(
    ("key", "dimension", "value", "wider"),
    [
        ("train.lr", {"log": [1e-4, 1e-1]}, 0.09, Range(1e-4, 1.0, log=True)),
        ("model.dropout", {"uniform": [0.0, 0.5]}, 0.49, Range(0.0, 0.75)),
        ("model.width", {"uniform": [8, 32]}, 32, Range(8, 44, integer=True)),
    ],
)
def test_the_advice_at_an_edge_can_be_typed(
    key: str, dimension: dict[str, Any], value: float, wider: Range
) -> None:
    (finding,) = edge_findings(recipe({key: dimension}), [trial(0, 0.9, **{key: value})])
    override = finding.advice.partition("--set '")[2].rstrip("'")
    assert load_recipe("digits", [override]).space[key] == wider
