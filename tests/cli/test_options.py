"""The options of search, refine and tune: the same everywhere, and each with its effect."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import Outcome, call

from cnntune.cli import app
from cnntune.config.space import draw
from cnntune.runs.run import Run
from cnntune.runs.study import Study
from cnntune.seeds import derive_seed
from cnntune.study.ledger import Ledger
from cnntune.study.samplers import grid_point

FAMILY = ("search", "refine", "tune")
LEARNS = """
name = "small"
[data]
name = "digits"
size = 300
[model]
width = 8
[train]
batch_size = 16
epochs = 2
[search]
epochs = 2
[space]
train.lr = { log = [5e-2, 3e-1] }
"""
SEARCH = ("search", "small.toml", "--budget", "3")
REFINE = ("refine", "--budget", "1", "--seeds", "0")
STUDY = Path("runs/small")
NO_TIME = ("--timeout", "0.001")  # seconds; over before anything is trained


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search of three trials."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "small.toml").write_text(LEARNS)
    outcome = call(*SEARCH, cwd=folder)
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def folder(searched: Path, tmp_path: Path) -> Path:
    """A copy of it to work in."""
    return Path(shutil.copytree(searched, tmp_path / "copy"))


def parameters(verb: str) -> dict[str, Any]:
    """The options and arguments of a command, by the way they are written."""
    command = getattr(typer.main.get_command(app), "commands", {})[verb]
    return {" ".join(sorted(one.opts)): one for one in command.params}


def said(outcome: Outcome) -> str:
    return " ".join(outcome.err.split())


def config(folder: Path, run: str) -> dict[str, Any]:
    return Run(folder / STUDY / run).config()


def test_an_option_of_several_verbs_of_the_family_has_one_help_type_and_default() -> None:
    found = {verb: parameters(verb) for verb in FAMILY}
    shared = 0
    for option in {option for each in found.values() for option in each} - {"--budget", "--help"}:
        kinds = {
            verb: (one.help, one.type_descriptor.annotation, one.min, one.max, one.default)
            for verb, each in found.items()
            if (one := each.get(option))
        }
        assert len(set(map(repr, kinds.values()))) == 1, (option, kinds)
        shared += len(kinds) > 1
    assert shared >= 12


def test_every_verb_of_the_family_has_the_options_that_make_sense_there() -> None:
    everywhere = {"--set", "--seed", "--timeout", "--sampler", "--epochs", "--workers"}
    everywhere |= {"--device", "--runs", "--json", "--quiet", "--budget", "--verbose -v"}
    names = {verb: set(parameters(verb)) for verb in FAMILY}
    assert everywhere <= set.intersection(*names.values())
    assert {verb for verb in FAMILY if "--pruner" in names[verb]} == {"search", "tune"}
    assert {verb for verb in FAMILY if "--storage" in names[verb]} == {"search"}


def test_help_says_why_an_option_is_missing(tmp_path: Path) -> None:
    refine = " ".join(call("refine", "--help", cwd=tmp_path).out.split())
    assert "There is no --pruner, since the few trials lie near the best" in refine
    tune = " ".join(call("tune", "--help", cwd=tmp_path).out.split())
    assert "There is no --storage, since each round depends on all trials before it" in tune


@pytest.mark.parametrize(
    ("verb", "counted"),
    [
        ("search", "Total number of trials in the study"),
        ("refine", "Number of trials in this refinement; repeats with fresh seeds are not counted"),
        ("tune", "Total number of training runs in the study"),
    ],
)
def test_the_help_of_budget_says_what_it_counts(verb: str, counted: str) -> None:
    assert parameters(verb)["--budget"].help.startswith(counted)


@pytest.mark.parametrize("budget", ["0", "-1", "many", "", "3.5", "1e3"])
@pytest.mark.parametrize("verb", FAMILY)
def test_a_nonsensical_budget_is_one_line_and_exit_code_2(
    tmp_path: Path, verb: str, budget: str
) -> None:
    if (verb, budget) == ("tune", "3.5"):
        budget = "-3.5s"  # 3.5 alone are seconds
    outcome = call(verb, f"--budget={budget}", cwd=tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert "--budget" in line
    assert f"(got {budget!r})" in line


def test_two_limits_of_time_are_refused(tmp_path: Path) -> None:
    outcome = call("tune", "--budget", "2h", "--timeout", "1h", cwd=tmp_path)
    assert outcome.code == 2
    line = "--timeout: needs a --budget of training runs (got one of time)\n"
    assert outcome.err == line


def test_refine_draws_from_the_seed_that_it_is_given(folder: Path) -> None:
    outcome = call(*REFINE, "--budget", "2", "--seed", "7", cwd=folder)
    assert outcome.code == 0, outcome.err
    first, second = (config(folder, f"refine-1/trial-000{number}") for number in (0, 1))
    assert first["seed"] == second["seed"] == 7
    space = Ledger.open(Study(folder / STUDY / "refine-1")).recipe.space
    # The first trial has the best values so far; the others are drawn, by refinement and slot.
    drawn = draw(space, seed=derive_seed(7, "refine", 1), slot=1)
    assert second["train"]["lr"] == drawn["train.lr"]


def test_refine_draws_with_the_sampler_that_it_is_given(folder: Path) -> None:
    outcome = call(*REFINE, "--budget", "2", "--sampler", "grid", cwd=folder)
    assert outcome.code == 0, outcome.err
    ledger = Ledger.open(Study(folder / STUDY / "refine-1"))
    given, second = ledger.trials()
    seed = derive_seed(0, "refine", 1)
    expected = grid_point(ledger.recipe.space, seed=seed, slot=1, given=[given.values])
    assert second.values == expected


def test_refine_trains_with_the_keys_that_are_set_and_resumes_with_the_same_alone(
    folder: Path,
) -> None:
    words = (*REFINE, "--set", "train.momentum=0.8", "--set", "space.train.lr={log=[0.2,0.22]}")
    assert call(*words, *NO_TIME, cwd=folder).code in (0, 1)
    other = call(*REFINE, "--set", "train.momentum=0.6", cwd=folder)
    assert other.code == 2
    refused, advice = other.err.splitlines()[-2:]
    assert "refine-1: was started with another recipe: train.momentum: 0.8 there, 0.6" in refused
    assert "finish it first without these options" in advice
    assert call(*words, "--budget", "2", cwd=folder).code == 0
    for number in (0, 1):
        assert config(folder, f"refine-1/trial-000{number}")["train"]["momentum"] == 0.8
        # The best so far, 0.256, lies outside: no trial has it.
        assert 0.2 <= config(folder, f"refine-1/trial-000{number}")["train"]["lr"] <= 0.22


def test_refine_says_that_a_key_which_it_draws_is_set_in_vain(folder: Path) -> None:
    outcome = call(*REFINE, "--set", "train.lr=0.1", *NO_TIME, cwd=folder)
    assert "--set train.lr=0.1 has no effect" in said(outcome)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("data.size=200", "the accuracies of all rounds are compared"),
        ("space.data.size={choice=[100,200]}", "the accuracies of all rounds are compared"),
        ("train.deterministic=true", "the search decides the precision of all rounds"),
        ("train.precision=float32", "the search decides the precision of all rounds"),
        ("search.pruner=halving", "its few trials lie near the best, and none is pruned"),
        ("train.epochs=3", "give --epochs"),
        ("name=other", "it is that of the study"),
    ],
)
def test_refine_changes_no_key_of_the_whole_study(folder: Path, override: str, reason: str) -> None:
    outcome = call(*REFINE, "--set", override, cwd=folder)
    key = override.partition("=")[0]
    assert outcome.code == 2
    line = outcome.err.splitlines()[-1]
    assert line == f"--set: {key}: cannot be changed in a refinement: {reason}"
    assert not (folder / STUDY / "refine-1").exists()


def test_refine_names_a_key_that_is_none_as_the_other_verbs_do(folder: Path) -> None:
    outcome = call(*REFINE, "--set", "model.widht=8", cwd=folder)
    assert outcome.code == 2
    assert "--set: model.widht" in outcome.err
    assert "did you mean 'width'" in outcome.err


@pytest.mark.slow
def test_a_refinement_whose_time_is_over_is_resumed_and_none_begins_anew(folder: Path) -> None:
    early = call(*REFINE, *NO_TIME, "--json", cwd=folder)
    (finding,) = (one for one in early.document["findings"] if one["rule"] == "timeout")
    assert finding["evidence"].startswith("the time is over: 0 of 1 trials have begun")
    assert not (folder / STUDY / "refine-1/refine.json").exists()
    late = call(*REFINE, "--json", cwd=folder)
    assert late.code == 0, late.err
    assert late.document["trials"]["complete"] == 1
    assert (folder / STUDY / "refine-1/refine.json").is_file()
    assert not (folder / STUDY / "refine-2").exists()


@pytest.mark.slow
def test_repeats_whose_time_is_over_are_trained_by_the_same_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("refine", "--budget", "1", "--seeds", "1", "--json")
    with monkeypatch.context() as patch:
        patch.setattr("cnntune.machine.clock.Deadline.after", lambda _: OverAfterTrials(folder))
        early = call(*words, "--timeout", "1h", cwd=folder)
    assert early.document["trials"]["complete"] == 1
    assert "3 of 3 repeats" in str(early.document["findings"])
    late = call(*words, cwd=folder)
    assert late.code == 0, late.err
    assert sum(len(one["val_accs"]) for one in late.document["candidates"]) == 3
    assert not (folder / STUDY / "refine-2").exists()


class OverAfterTrials:
    """A deadline that passes once the refinement's trial has ended."""

    def __init__(self, folder: Path) -> None:
        self.summary = folder / STUDY / "refine-1/trial-0000/summary.json"

    @property
    def passed(self) -> bool:
        return self.summary.exists()

    @property
    def seconds_left(self) -> float:
        return 0.0 if self.passed else 3600.0


def test_sampler_and_pruner_of_tune_are_those_of_its_first_round(folder: Path) -> None:
    shutil.rmtree(folder / STUDY)
    recipe = ("--sampler", "qmc", "--pruner", "halving")
    assert call(*SEARCH, *recipe, cwd=folder).code == 0
    words = ("tune", "small.toml", "--budget", "13", *NO_TIME)
    refused = call(*words, cwd=folder)
    assert refused.code == 2
    assert "holds another recipe: search.pruner: halving there, none asked" in refused.err
    assert "holds another recipe: search.sampler: qmc there, random asked" in refused.err
    taken = call(*words, *recipe, cwd=folder)
    assert taken.code in (0, 1), taken.err


def test_tune_pauses_when_its_time_is_over_and_the_same_command_resumes_it(folder: Path) -> None:
    words = ("tune", "small.toml", "--budget", "12", "--json")
    refused = call(*words, cwd=folder)
    assert (refused.code, "must be at least 13 training runs" in refused.err) == (2, True)
    words = ("tune", "small.toml", "--budget", "13", "--json")
    early = call(*words, *NO_TIME, cwd=folder)
    assert early.code in (0, 1), early.err
    (stop,) = (one for one in early.document["findings"] if one["rule"] == "stopped")
    assert "the time is up" in stop["evidence"]
    (repeats,) = (one for one in early.document["findings"] if one["rule"] == "repeats")
    assert repeats["advice"] == "the same command trains them"
    runs = sorted((folder / STUDY).rglob("trial-*/config.json"))
    assert len(runs) == 3  # those of the search
    late = call(*words, cwd=folder)
    assert late.code in (0, 1), late.err
    assert len(sorted((folder / STUDY).rglob("trial-*/config.json"))) == 13
    assert all(len(one["val_accs"]) == 3 for one in late.document["candidates"])


def test_quiet_and_verbose_are_refused_together(folder: Path) -> None:
    for verb in (*FAMILY, "train"):
        outcome = call(verb, "--quiet", "--verbose", cwd=folder)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err == "--verbose: cannot be combined with --quiet\n"


def test_tables_of_trials_are_kept_however_a_command_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / STUDY / "trials.csv").unlink()

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cnntune.steps.search.result", interrupted)
        assert call(*SEARCH, cwd=folder).code == 130
    rows = (folder / STUDY / "trials.csv").read_text().splitlines()
    assert re.match(r"number,status,val_acc", rows[0])
    assert len(rows) == 1 + 3
    assert json.loads((folder / STUDY / "search.json").read_text())["trials"]["complete"] == 3
