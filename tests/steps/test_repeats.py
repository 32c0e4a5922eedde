"""Repeats of a command: fresh seeds only where it has a placeholder for one and heeds it."""

from pathlib import Path

from cnntune.config.command import CommandRecipe, CommandSection, parse_command
from cnntune.config.recipe import Recipe
from cnntune.findings import Finding
from cnntune.runs.run import Epoch, NotLogged, Run
from cnntune.runs.summary import Summary
from cnntune.steps.repeats import are_same_runs, findings, how_often, notes
from cnntune.steps.winner import Candidate, Rival
from cnntune.study.trial import Trial

SPACE = {"space": {"train": {"lr": {"log": [1e-4, 1e-1]}}}}
JUDGED = [
    Finding("winner", "ok", "trial-0000: 0.9 over 3 fresh seeds; next is trial-0001 with 0.8"),
    Finding("unstable-seed", "warn", "trial-0001 diverged for 1 of 3 seeds"),
]


def command(*words: str) -> CommandRecipe:
    section = CommandSection(words=["python", "train.py", "{train.lr}", *words], folder="/")
    return parse_command(SPACE, section, file="space.toml")


def run(folder: Path, *accs: float, seconds: float = 1.0) -> Run:
    """A finished run whose script logged an accuracy per epoch."""
    done = Run(folder)
    done.begin({})
    no = NotLogged()
    for epoch, acc in enumerate(accs, start=1):
        done.log(Epoch(epoch, no, no, no, no, acc, no, seconds))
    done.finish(Summary("complete", len(accs), val_acc=max(accs)).to_json())
    return done


def candidate(folder: Path, accs: list[float], *repeats: list[float]) -> Candidate:
    """A trial and its repeats, by their accuracies."""
    trial = run(folder, *accs)
    for seed, each in enumerate(repeats, start=1):
        run(folder.with_name(f"{folder.name}-seed-{seed}"), *each, seconds=2.0)
    summary = Summary("complete", len(accs), val_acc=max(accs))
    rival = Rival(Trial(0, {}, trial, summary), command("{seed}"))
    return Candidate(rival, len(repeats), [max(each) for each in repeats])


def test_a_command_without_a_seed_is_told_before_its_repeats() -> None:
    (note,) = notes(command(), 3)
    assert note.severity == "warn"
    assert note.evidence.startswith("the command has no {seed}: the best trials are run again 3")
    assert "--seed {seed}" in note.advice
    assert not notes(command(), 0)
    assert not notes(command("{seed}"), 3)
    assert not notes(Recipe(name="digits"), 3)


def test_repeats_without_a_seed_are_not_called_seeds() -> None:
    assert how_often(command(), 3) == "again 3 times each"
    assert how_often(command(), 1) == "again 1 time each"
    assert how_often(command("--seed={seed}"), 3) == "again with 3 fresh seeds each"
    told = [one.evidence for one in findings(command(), [], JUDGED)]
    assert told == [
        "trial-0000: 0.9 over 3 repeats; next is trial-0001 with 0.8",
        "trial-0001 diverged for 1 of 3 repeats",
    ]
    assert findings(command("{seed}"), [], JUDGED) == JUDGED


def test_repeats_that_are_the_same_run_name_no_winner(tmp_path: Path) -> None:
    same = [
        candidate(tmp_path / "trial-0000", [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]),
        candidate(tmp_path / "trial-0001", [0.1, 0.8], [0.1, 0.8], [0.1, 0.8]),
    ]
    assert are_same_runs(same)
    told, rest = findings(command("{seed}"), same, JUDGED)
    assert (told.rule, told.severity) == ("repeats", "warn")
    assert told.evidence == (
        "each repeat equals its trial to the last bit: the command ignores its seed, and nothing is"
        " known of luck; trial-0000 has 0.9000; next is trial-0001 with 0.8000"
    )
    assert rest == JUDGED[1]
    assert "the script sets its seed" in findings(command(), same, JUDGED)[0].evidence


def test_equal_accuracies_of_other_curves_are_repeats_like_all(tmp_path: Path) -> None:
    one_bit = 0.1 + 2**-55  # 0.1 and the next number
    assert one_bit != 0.1
    other = [candidate(tmp_path / "trial-0000", [0.1, 0.9], [0.1, 0.9], [one_bit, 0.9])]
    assert not are_same_runs(other)
    assert findings(command("{seed}"), other, JUDGED) == JUDGED


def test_a_single_equal_repeat_may_be_chance(tmp_path: Path) -> None:
    assert not are_same_runs([candidate(tmp_path / "trial-0000", [0.9], [0.9])])
    assert not are_same_runs([candidate(tmp_path / "trial-0001", [0.9])])


def test_a_recipe_keeps_its_findings() -> None:
    assert findings(Recipe(name="digits"), [], JUDGED) == JUDGED
