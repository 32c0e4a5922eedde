"""Which trial of a study is the best: over all rounds, by fresh seeds, and when nobody can say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnntune.config.recipe import Recipe, parse
from cnntune.runs.run import Epoch, Run
from cnntune.runs.study import Study
from cnntune.runs.summary import Summary
from cnntune.steps.winner import (
    Candidate,
    Rival,
    best_rivals,
    candidates,
    findings,
    ledgers,
    paired_gains,
    pool,
    quantile,
    rounds,
    seed_noise,
    tied,
    winner,
)
from cnntune.study.ledger import Ledger
from cnntune.study.noise import image_error
from cnntune.study.trial import Trial
from cnntune.training.open_recipe import argument_problems


def recipe(epochs: int = 2, **more: Any) -> Recipe:
    values = {"search": {"epochs": epochs}, "space": {"train.lr": {"log": [1e-3, 1e-1]}}}
    return parse(values | more, file="test", check_arguments=argument_problems)


def rival(number: int, val_acc: float = 0.9, val_loss: float = 1.0, folder: Path = Path()) -> Rival:
    summary = Summary("complete", 2, val_acc=val_acc, val_loss=val_loss)
    run = Run(folder / f"trial-{number:04d}")
    return Rival(Trial(number, {}, run, summary), recipe())


def candidate(number: int, *val_accs: float, **counts: int) -> Candidate:
    asked = len(val_accs) + sum(counts.values())
    return Candidate(rival(number), asked, list(val_accs), **counts)


def searched(study: Study, *val_accs: float, epochs: int = 2) -> None:
    """A round whose trials came to these accuracies."""
    asked = recipe(epochs)
    ledger = Ledger.create(study, asked, asked=asked)
    for number, val_acc in enumerate(val_accs):
        ledger.begin(asked.space, {"train.lr": 0.01})
        summary = Summary("complete", epochs, val_acc=val_acc, val_loss=1.0)
        study.trial(number).finish(summary.to_json())
        ledger.tell(number, summary)


def repeated(study: Study, label: str, **summary: Any) -> None:
    study.run(label).finish({"status": "complete", **summary})


def names(found: list[Rival]) -> list[str]:
    return [one.name for one in found]


def test_rounds_are_counted_and_not_spelled(tmp_path: Path) -> None:
    for name in ("refine-10", "refine-2", "refine-1", "refine-old", "other"):
        (tmp_path / name).mkdir()
    found = [study.name for study in rounds(Study(tmp_path))]
    assert found == ["refine-1", "refine-2", "refine-10"]


def test_the_best_three_of_all_rounds_are_rivals_also_of_a_round_that_is_not_finished(
    tmp_path: Path,
) -> None:
    searched(Study(tmp_path), 0.93, 0.50)
    searched(Study(tmp_path / "refine-1"), 0.97, 0.94)  # without its refine.json
    found = best_rivals(pool(ledgers(Study(tmp_path))))
    assert names(found) == ["refine-1/trial-0000", "refine-1/trial-0001", "trial-0000"]


def test_a_refined_trial_does_not_win_by_its_epochs(tmp_path: Path) -> None:
    searched(Study(tmp_path), 0.95, epochs=2)
    searched(Study(tmp_path / "refine-1"), 0.94, epochs=20)
    found = best_rivals(pool(ledgers(Study(tmp_path))))
    assert names(found) == ["trial-0000", "refine-1/trial-0000"]
    assert [one.recipe.search.epochs for one in found] == [2, 20]  # each repeats its own recipe


def test_between_equals_the_later_round_is_preferred(tmp_path: Path) -> None:
    for part in ("", "refine-1", "refine-2"):
        searched(Study(tmp_path / part), 0.9)
    found = best_rivals(pool(ledgers(Study(tmp_path))))
    assert names(found) == ["refine-2/trial-0000", "refine-1/trial-0000", "trial-0000"]


def test_a_configuration_that_two_rounds_trained_is_one_rival(tmp_path: Path) -> None:
    for part in ("", "refine-1", "refine-2"):
        searched(Study(tmp_path / part), 0.9, 0.8)
        for number in (0, 1):
            values = {"train": {"lr": 0.01 if number == 0 else 0.02 + len(part)}}
            Study(tmp_path / part).trial(number).begin(values)
    found = best_rivals(pool(ledgers(Study(tmp_path))))
    # 0.02, then 8.02 twice: the same again, of which only the earliest counts.
    assert names(found) == ["trial-0000", "refine-1/trial-0001", "trial-0001"]


def test_a_trial_that_time_cut_counts_by_its_best_finished_epoch(tmp_path: Path) -> None:
    study = Study(tmp_path)
    searched(study, 0.6)
    ledger = Ledger.open(study)
    ledger.begin(ledger.recipe.space, {"train.lr": 0.02})
    run = study.trial(1)
    run.begin({})
    for number, val_acc in enumerate((0.5, 0.8, 0.7), start=1):
        run.log(Epoch(number, 0.1, 1.0, 0.5, 1.0, val_acc, 1.0, 1.0))
    first, second = best_rivals(pool(ledgers(study)))
    assert (first.name, first.trial.val_acc, first.cut) == ("trial-0001", 0.8, True)
    assert (second.name, second.cut) == ("trial-0000", False)


def test_a_candidate_has_the_mean_and_the_sample_deviation_of_its_fresh_seeds() -> None:
    found = candidate(0, 0.90, 0.92, 0.94)
    assert found.mean == pytest.approx(0.92)
    assert found.sd == pytest.approx(0.02)  # sqrt((0.02^2 + 0.02^2) / 2)
    assert candidate(1, 0.9).sd is None
    assert candidate(2).mean is None


def test_candidates_come_in_the_order_of_their_fresh_seeds(tmp_path: Path) -> None:
    study = Study(tmp_path)
    found = [rival(0, 0.90, folder=tmp_path), rival(1, 0.88, folder=tmp_path)]
    repeated(study, "trial-0000-seed-1", val_acc=0.80)
    repeated(study, "trial-0000-seed-2", val_acc=0.82)
    repeated(study, "trial-0001-seed-1", val_acc=0.89)
    first, second = candidates(found, seeds=2)
    assert (first.number, first.val_accs, first.missing) == (1, [0.89], 1)
    assert (second.number, second.val_accs, second.selected_acc) == (0, [0.80, 0.82], 0.90)


def test_seeds_that_diverged_failed_or_are_missing_are_counted_and_told(tmp_path: Path) -> None:
    study = Study(tmp_path)
    repeated(study, "trial-0000-seed-1", val_acc=0.8)
    study.run("trial-0000-seed-2").finish({"status": "diverged", "best_epoch": None})
    study.run("trial-0000-seed-3").finish({"status": "failed", "error": "out of paper\nmore"})
    (found,) = candidates([rival(0, folder=tmp_path)], seeds=4)
    counts = (found.asked, found.val_accs, found.diverged, found.failed, found.missing)
    assert counts == (4, [0.8], 1, 1, 1)
    document = found.as_json()
    assert (document["asked"], document["failed"], document["diverged"]) == (4, 1, 1)
    said = {finding.rule: finding.evidence for finding in findings([found])}
    assert said["failed-repeats"] == "trial-0000 failed for 1 of 4 seeds: out of paper"
    assert said["unstable-seed"] == "trial-0000 diverged for 1 of 4 seeds"
    assert said["repeats"] == "1 of 4 repeats with fresh seeds are not trained"


# From a printed table of Student's t, two-sided 5 %.
@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706), (6, 2.447), (10, 2.228), (11, 2.201), (30, 2.042)]
)
def test_how_many_standard_errors_are_needed_follows_from_the_degrees_of_freedom(
    freedom: int, expected: float
) -> None:
    assert quantile(freedom) == pytest.approx(expected, abs=0.005)


# From a printed table of Student's t, one-sided 2 % and 20 %.
@pytest.mark.parametrize(
    ("share", "freedom", "expected"),
    [(0.98, 2, 4.849), (0.98, 4, 2.999), (0.98, 10, 2.359), (0.8, 1, 1.376), (0.8, 2, 1.061)],
)
def test_the_quantile_of_another_level_is_that_of_the_table(
    share: float, freedom: int, expected: float
) -> None:
    assert quantile(freedom, share) == pytest.approx(expected, abs=0.0006)


def test_candidates_within_the_error_of_their_difference_are_tied() -> None:
    # Deviations of 0.02, 4 degrees of freedom by Welch: 2.999 * 0.02 * sqrt(1/3 + 1/3) = 0.04897.
    best, near, far = (
        candidate(0, 0.90, 0.92, 0.94),
        candidate(1, 0.852, 0.872, 0.892),  # 0.048 below
        candidate(2, 0.850, 0.870, 0.890),  # 0.050 below
    )
    assert tied([best, near, far]) == [best, near]


def test_the_interval_of_a_mean_is_that_of_students_t_and_ends_at_one() -> None:
    # 4.303 * 0.02 / sqrt(3) = 0.04969.
    found = candidate(0, 0.90, 0.92, 0.94)
    assert found.interval == pytest.approx((0.8703, 0.9697), abs=1e-4)
    assert candidate(1, 0.96, 0.98, 1.0).interval == pytest.approx((0.9303, 1.0), abs=1e-4)
    assert candidate(2, 0.9).interval is None
    assert found.as_json()["interval"] == list(found.interval or ())


def test_the_error_of_the_images_stands_beside_that_of_the_seeds() -> None:
    # sqrt(0.9 * 0.1 / 100) = 0.03, and one image of 400 where all are right.
    assert image_error(0.9, 100) == pytest.approx(0.03)
    assert image_error(1.0, 400) == pytest.approx(1 / 400)
    found = with_images(candidate(0, 0.88, 0.90, 0.92), 100)
    assert found.image_error == pytest.approx(0.03)
    assert found.as_json()["image_error"] == pytest.approx(0.03)
    (said,) = findings([found])
    assert said.evidence.endswith("; other 100 validation images would move it by about 0.0300")
    assert with_images(candidate(1, -0.4, -0.5), 100).image_error is None  # losses
    assert candidate(2, 0.9, 0.8).image_error is None  # a study that does not count its images


def with_images(one: Candidate, images: int) -> Candidate:
    trial = one.rival.trial
    trial = replace(trial, summary=replace(trial.summary, val_images=images))
    return replace(one, rival=replace(one.rival, trial=trial))


def test_the_noise_of_seeds_is_pooled_over_all_repeats_of_a_study(tmp_path: Path) -> None:
    # Squares 2 * 0.01^2 over three seeds and 0.5 * 0.04^2 over two: sqrt(0.001 / 3) = 0.01826.
    for seed, acc in enumerate((0.89, 0.90, 0.91), start=1):
        repeated(Study(tmp_path), f"trial-0000-seed-{seed}", val_acc=acc)
    for seed, acc in enumerate((0.84, 0.88), start=1):
        repeated(Study(tmp_path / "refine-1"), f"trial-0000-seed-{seed}", val_acc=acc)
    repeated(Study(tmp_path), "trial-0001-seed-1", val_acc=0.2)  # alone
    best = rival(0).trial
    assert seed_noise(Study(tmp_path), best) == pytest.approx(0.01826, abs=1e-5)
    bare = Study(tmp_path / "bare")
    assert seed_noise(bare, best) is None
    counted = replace(best, summary=replace(best.summary, val_images=100))
    assert seed_noise(bare, counted) == pytest.approx(0.03)  # sqrt(0.9 * 0.1 / 100)


def test_gains_are_those_of_the_seeds_that_both_trials_have(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for name, *accs in (("trial-0000", 0.90, 0.91, 0.92), ("trial-0001", 0.95, 0.94)):
        for seed, acc in enumerate(accs, start=1):
            repeated(study, f"{name}-seed-{seed}", val_acc=acc)
    study.run("trial-0001-seed-3").finish({"status": "diverged", "chance_acc": 0.1})
    later, earlier = rival(1, folder=tmp_path), rival(0, folder=tmp_path)
    assert paired_gains(later, earlier, seeds=3) == pytest.approx([0.05, 0.03, -0.82])
    assert paired_gains(later, earlier, seeds=2) == pytest.approx([0.05, 0.03])
    assert paired_gains(later, rival(7, folder=tmp_path), seeds=3) == []


@pytest.mark.parametrize(("below", "level"), [(0.055, 2), (0.057, 1)])
def test_a_quiet_candidate_lends_a_noisy_one_no_certainty(below: float, level: int) -> None:
    # By Welch the noisy one alone counts: 2 degrees of freedom, 4.849 * 0.02 / sqrt(3) = 0.05599.
    # Pooled it would be 2.776 * 0.01414 * sqrt(2/3) = 0.0321.
    noisy = candidate(0, 0.90, 0.92, 0.94)
    quiet = candidate(1, *[0.92 - below] * 3)
    assert len(tied([noisy, quiet])) == level


def test_a_third_candidate_changes_nothing_between_the_first_two() -> None:
    first, second = candidate(0, 0.90, 0.92, 0.94), candidate(1, 0.86, 0.88, 0.90)
    quiet = candidate(2, 0.2, 0.2, 0.2)
    assert tied([first, second]) == tied([first, second, quiet]) == [first, second]


def test_one_fresh_seed_each_tells_nobody_apart() -> None:
    found = [candidate(0, 0.9), candidate(1, 0.5)]
    assert tied(found) == found
    (tie,) = findings(found)
    assert (tie.rule, tie.severity) == ("tie", "info")
    assert tie.evidence.endswith("trial-0001 (0.5000): one seed per candidate has no spread")


def test_without_repeats_there_is_no_winner() -> None:
    assert findings([]) == []
    assert findings([candidate(0), candidate(1)]) == []
    assert tied([]) == []


def test_a_winner_is_named_with_its_spread_and_a_tie_with_its_rivals() -> None:
    best, near = candidate(4, 0.90, 0.92, 0.94), candidate(1, 0.89, 0.91, 0.93)
    (tie,) = findings([best, near])
    assert (tie.rule, tie.severity) == ("tie", "info")
    assert tie.evidence == (
        "trial-0004: 0.9200 over 3 fresh seeds, 95 % interval 0.8703 to 0.9697 by Student's t"
        " (selected at 0.9000) does not beat trial-0001 (0.9100) significantly (Welch's t)"
    )
    (winner,) = findings([best, candidate(2, 0.50, 0.52, 0.54)])
    assert (winner.rule, winner.severity) == ("winner", "ok")


def test_a_single_candidate_has_no_rival_and_is_not_called_a_winner() -> None:
    (alone,) = findings([candidate(0, 0.90, 0.92, 0.94)])
    assert (alone.rule, alone.severity) == ("winner", "info")
    assert alone.evidence.endswith("it has no rival: the only candidate")
    others = findings([candidate(0, 0.90, 0.92, 0.94), candidate(1, 0.95, diverged=1)])
    assert (others[0].rule, others[0].severity) == ("winner", "info")
    assert "no rival: the others diverged" in others[0].evidence


def test_where_every_candidate_diverged_for_a_seed_there_is_no_winner() -> None:
    found = [candidate(0, 0.90, 0.92, diverged=1), candidate(1, 0.80, 0.82, diverged=1)]
    assert [(one.rule, one.severity) for one in findings(found)] == [
        ("winner", "warn"),
        ("unstable-seed", "warn"),
        ("unstable-seed", "warn"),
    ]
    none_whole = findings([candidate(0, diverged=3)])
    assert (none_whole[0].rule, none_whole[0].severity) == ("winner", "warn")


def test_one_image_more_is_no_victory() -> None:
    best, second = candidate(0, *[0.9972] * 3), candidate(1, *[0.9944] * 3)
    assert tied([best, second], val_images=359) == [best, second]
    assert tied([best, second], val_images=None) == [best]


def of_size(one: Candidate, parameters: int | None) -> Candidate:
    trial = one.rival.trial
    trial = replace(trial, summary=replace(trial.summary, parameters=parameters))
    return replace(one, rival=replace(one.rival, trial=trial))


def test_of_candidates_that_are_tied_the_smallest_network_is_the_winner() -> None:
    # Their means are 0.97 and 0.96; with a spread of 0.01 they are tied, and 0.5 is not.
    wide = of_size(candidate(1, 0.96, 0.97, 0.98), 4000)
    slim = of_size(candidate(2, 0.95, 0.96, 0.97), 1000)
    tiny = of_size(candidate(3, 0.49, 0.50, 0.51), 10)
    assert winner([wide, slim, tiny]) == slim
    (tie,) = findings([wide, slim, tiny])
    assert tie.advice.startswith("train trial-0002, the smallest of them: 1,000 parameters")


def test_of_networks_of_one_size_the_highest_mean_is_the_winner() -> None:
    first = of_size(candidate(1, 0.96, 0.97, 0.98), 1000)
    second = of_size(candidate(2, 0.95, 0.96, 0.97), 1000)
    assert winner([first, second]) == first
    assert findings([first, second])[0].advice.startswith("train trial-0001, whose mean is highest")


def test_where_every_candidate_diverged_none_is_to_be_trained() -> None:
    assert winner([candidate(1, 0.9, 0.9, diverged=1)]) is None
    assert winner([]) is None
