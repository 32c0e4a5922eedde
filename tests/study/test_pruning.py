"""Pruning: who goes on, who waits and who ends, on small brackets that can be followed by hand."""

import pytest

from cnntune.study.pruning import PRUNE, Bracket, Progress, brackets, ladder, targets

# Six trials, cut after epochs 1 and 3 of 9: one in three goes on, so 6 -> 2 -> 1.
SIX = Bracket(first=0, size=6, ladder=(1, 3, 9))


def halving(
    *curves: list[float], ended: tuple[int, ...] = (), failed: tuple[int, ...] = ()
) -> dict[int, int]:
    """The targets of the trials of `SIX` with these accuracies so far."""
    trials = {
        number: Progress(
            number, accs, ended=number in (*ended, *failed), ranks=number not in failed
        )
        for number, accs in enumerate(curves)
    }
    return targets("halving", 9, [SIX], trials)


def test_hyperband_divides_the_epochs_by_three() -> None:
    assert ladder("hyperband", 27) == (1, 3, 9, 27)
    assert ladder("hyperband", 10) == (1, 3, 10)
    assert ladder("hyperband", 2) == (2,)


def test_halving_cuts_once_early_and_not_before_two_epochs() -> None:
    assert ladder("halving", 27) == (2, 27)
    assert ladder("halving", 100) == (8, 100)  # 7.5
    assert ladder("halving", 3) == (2, 3)
    assert ladder("halving", 2) == (2,)


def test_everybody_trains_to_the_first_rung() -> None:
    assert halving([], []) == {0: 1, 1: 1}


def test_who_reached_a_rung_waits_for_the_others() -> None:
    assert halving([0.9], [0.1], [], [0.2], [0.3], [0.4]) == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1}


def test_who_reached_a_rung_waits_for_trials_that_have_not_begun() -> None:
    assert halving([0.9], [0.1]) == {0: 1, 1: 1}


def test_the_best_third_goes_on_and_the_others_end() -> None:
    decided = halving([0.5], [0.1], [0.7], [0.2], [0.3], [0.4])
    assert decided == {0: 3, 1: PRUNE, 2: 3, 3: PRUNE, 4: PRUNE, 5: PRUNE}
    assert list(decided)[:2] == [2, 0]  # the better one first


def test_of_equals_the_first_goes_on() -> None:
    decided = halving(*[[0.5]] * 6)
    assert [number for number, target in decided.items() if target == 3] == [0, 1]


def test_the_last_cut_leaves_one() -> None:
    short = [0.1]
    curves = ([0.5, 0.6, 0.6], short, [0.7, 0.5, 0.8], short, short, short)
    assert halving(*curves, ended=(1, 3, 4, 5)) == {0: PRUNE, 2: 9}  # 0.6 against 0.75


def test_one_lucky_epoch_does_not_pass_a_rung() -> None:
    short = [0.1]
    curves = ([0.2, 0.3, 0.9], short, [0.7, 0.7, 0.6], short, short, short)
    assert halving(*curves, ended=(1, 3, 4, 5)) == {0: PRUNE, 2: 9}  # 0.6 against 0.7


def test_trials_that_failed_leave_their_place_to_others() -> None:
    decided = halving([], [0.1], [0.7], [0.2], [0.3], [0.4], failed=(0,))
    assert decided == {1: PRUNE, 2: 3, 3: PRUNE, 4: PRUNE, 5: PRUNE}  # a third of five, at least 1


def test_decisions_are_the_same_after_a_restart() -> None:
    """What was pruned before the restart ranks among the others as it did."""
    running = halving([0.5], [0.1], [0.7], [0.2], [0.3], [0.4])
    restarted = halving([0.5], [0.1], [0.7], [0.2], [0.3], [0.4], ended=(1, 3))
    assert restarted == {number: running[number] for number in (0, 2, 4, 5)}


def test_without_a_pruner_everybody_trains_to_the_end() -> None:
    (whole,) = brackets("none", 9, first=0, count=6)
    assert targets("none", 9, [whole], {0: Progress(0), 1: Progress(1, [0.1])}) == {0: 9, 1: 9}


def test_a_further_budget_is_a_bracket_of_its_own() -> None:
    assert brackets("halving", 9, first=6, count=3) == [Bracket(6, 3, (2, 9))]
    assert brackets("halving", 9, first=6, count=0) == []


def test_hyperband_goes_from_many_short_trials_to_few_whole_ones() -> None:
    """Li et al. 2018, table 1, for R = 9: 9 trials from 1 epoch, 5 from 3, 3 from 9."""
    found = brackets("hyperband", 9, first=0, count=17)
    assert found == [Bracket(0, 9, (1, 3, 9)), Bracket(9, 5, (3, 9)), Bracket(14, 3, (9,))]


def test_hyperband_begins_anew_and_cuts_its_last_bracket_to_the_budget() -> None:
    found = brackets("hyperband", 9, first=0, count=20)
    assert found[3] == Bracket(17, 3, (1, 3, 9))


@pytest.mark.parametrize(("acc", "target"), [(0.29, PRUNE), (0.3, 2), (0.9, 2)])
def test_the_median_rule_ends_what_is_below_the_median_at_its_epoch(
    acc: float, target: int
) -> None:
    accs = [0.5, 0.1, 0.3, 0.2, 0.4]  # median 0.3
    finished = {n: Progress(n, [first, 0.9], ended=True) for n, first in enumerate(accs)}
    assert targets("median", 9, [], finished | {9: Progress(9, [acc])}) == {9: target}


def test_the_median_rule_waits_for_five_finished_trials_and_a_first_epoch() -> None:
    finished = {n: Progress(n, [0.9], ended=True) for n in range(5)}
    assert targets("median", 9, [], finished | {9: Progress(9)}) == {9: 1}
    del finished[0]
    assert targets("median", 9, [], finished | {9: Progress(9, [0.1])}) == {9: 2}
