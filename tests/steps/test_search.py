"""Step 4: one search whatever happens to it, and what it says when it cannot go on."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import CNNTUNE, PATIENCE_SECONDS, Outcome, call, one_after_the_other, rows, run

from cnntune.config.recipe import Recipe
from cnntune.config.space import Choice, Dimension, Range, toml
from cnntune.machine.clock import Deadline
from cnntune.runs.run import Run
from cnntune.runs.study import Study
from cnntune.runs.summary import Status, Summary
from cnntune.steps.search import (
    begin,
    default_space,
    intersect,
    prepare,
    table,
    without_effect,
)
from cnntune.steps.search_findings import trial_findings
from cnntune.study import coordinator as trials_room
from cnntune.study.coordinator import run_trials
from cnntune.study.ledger import Ledger
from cnntune.study.trial import Trial, best_of
from cnntune.training.open_recipe import load_recipe
from cnntune.workers.pool import Event, Job, in_order, run_jobs
from cnntune.workers.worker import Trainer

BUDGET = 4

SMALL = """
name = "small"
seed = 3
[data]
name = "digits"
size = 120
[model]
width = 4
[augment]
crop = 1
[train]
precision = "float32"
batch_size = 32
[search]
epochs = 2
[space]
train.lr = { log = [1e-3, 1e-1] }
model.dropout = { uniform = [0.0, 0.5] }
model.width = { choice = [2, 4] }
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "small.toml").write_text(SMALL)
    return load_recipe(str(tmp_path / "small.toml"))


class Killed(BaseException):
    """Ends a coordinator on the spot, as SIGKILL does."""


Pool = Callable[..., Iterator[Event]]


def search(
    study: Study, recipe: Recipe, budget: int, pool: Pool = one_after_the_other, events: int = 10**6
) -> int:
    """Search in this process until the budget or so many events are reached; returns the events."""
    with study.lock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials_room, "run_jobs", pool)
        ledger = Ledger.create(study, recipe, asked=recipe)
        happened = run_trials(ledger, budget=budget, workers=2, devices=("cpu",))
        seen = 0
        with contextlib.suppress(Killed):
            for _ in happened:
                seen += 1
                if seen == events:
                    break
        happened.close()
    return seen


def content(study: Study) -> list[tuple[int, str, dict[str, Any], list[str]]]:
    """All that two equal searches share: number, status, values and curve of each trial."""
    return [(t.number, t.status, t.values, rows(t.run.path)) for t in Ledger.open(study).trials()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The search that every other one has to equal."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "small.toml").write_text(SMALL)
    study = Study(folder / "runs" / "small")
    search(study, load_recipe(str(folder / "small.toml")), BUDGET)
    return study


def test_a_search_runs_its_budget_and_draws_within_the_space(undisturbed: Study) -> None:
    found = Ledger.open(undisturbed).trials()
    assert [trial.number for trial in found] == list(range(BUDGET))
    assert {trial.status for trial in found} == {"complete"}
    for trial in found:
        assert 1e-3 <= float(trial.values["train.lr"]) <= 1e-1
        assert 0 <= float(trial.values["model.dropout"]) <= 0.5
        assert trial.values["model.width"] in (2, 4)
        assert len(trial.run.rows()) == 2
        assert trial.run.config()["train"]["lr"] == trial.values["train.lr"]
    assert len({trial.values["train.lr"] for trial in found}) == BUDGET


def two_at_a_time(
    next_job: Callable[[], Job | None], *, devices: Sequence[str], **_: Any
) -> Iterator[Event]:
    """Two workers of which the second always finishes first."""
    while pair := [job for job in (next_job(), next_job()) if job]:
        yield from (Event(job) for job in pair)
        for job in reversed(pair):
            yield from Trainer(torch.device(devices[0])).train(job)


def test_the_order_in_which_trials_finish_changes_nothing(
    recipe: Recipe, tmp_path: Path, undisturbed: Study
) -> None:
    study = Study(tmp_path / "study")
    search(study, recipe, BUDGET, pool=two_at_a_time)
    assert content(study) == content(undisturbed)


# A trial of two epochs has four events: begun, two rows, done.
@pytest.mark.parametrize("events", [1, 2, 5])
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(
    recipe: Recipe, tmp_path: Path, undisturbed: Study, events: int
) -> None:
    study = Study(tmp_path / "study")
    search(study, recipe, BUDGET, events=events)
    search(study, recipe, BUDGET)
    assert content(study) == content(undisturbed)


def killed_after_the_second_trial(
    next_job: Callable[[], Job | None], *, devices: Sequence[str], **_: Any
) -> Iterator[Event]:
    """The coordinator dies when `summary.json` is written and before it can read of it."""
    while job := next_job():
        yield Event(job)
        *earlier, last = Trainer(torch.device(devices[0])).train(job)
        yield from earlier
        if job.number == 1:
            raise Killed
        yield last


def test_a_trial_that_was_finished_is_not_run_again(
    recipe: Recipe, tmp_path: Path, undisturbed: Study
) -> None:
    study = Study(tmp_path / "study")
    search(study, recipe, BUDGET, pool=killed_after_the_second_trial)
    finished = [study.trial(number).summary() for number in (0, 1)]
    assert [trial.status for trial in Ledger.open(study).trials()] == ["complete", "running"]
    search(study, recipe, BUDGET)
    assert content(study) == content(undisturbed)
    assert [study.trial(number).summary() for number in (0, 1)] == finished


def test_a_larger_budget_extends_a_search_and_the_same_one_adds_nothing(
    recipe: Recipe, tmp_path: Path, undisturbed: Study
) -> None:
    study = Study(tmp_path / "study")
    search(study, recipe, 2)
    assert content(study) == content(undisturbed)[:2]
    assert search(study, recipe, 2) == 0
    search(study, recipe, BUDGET)
    assert content(study) == content(undisturbed)
    assert search(study, recipe, 3) == 0


def test_a_trial_that_was_left_behind_when_the_coordinator_died_is_ended_and_drawn(
    recipe: Recipe, tmp_path: Path
) -> None:
    toml = SMALL.replace("epochs = 2", 'epochs = 3\npruner = "halving"')
    (tmp_path / "small.toml").write_text(toml)
    halving = load_recipe(str(tmp_path / "small.toml"))
    whole = Study(tmp_path / "whole")
    ledger = Ledger.create(whole, halving, asked=halving)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials_room, "run_jobs", one_after_the_other)
        events = list(run_trials(ledger, budget=BUDGET, workers=1, devices=("cpu",)))
    ends = [event.summary.status if event.summary else "" for event in events]
    search(Study(tmp_path / "runs/small"), halving, BUDGET, events=ends.index("pruned"))
    outcome = call("search", "small.toml", "--budget", str(BUDGET), cwd=tmp_path)
    assert outcome.code in (0, 1), outcome.err
    assert content(Study(tmp_path / "runs/small")) == content(whole)


def test_a_trial_whose_folder_is_removed_keeps_its_accuracy_and_the_search_goes_on(
    recipe: Recipe, tmp_path: Path
) -> None:
    study = Study(tmp_path / "study")
    search(study, recipe, 2)
    before = Ledger.open(study).trials()[0]
    shutil.rmtree(study.trial(0).path)
    search(study, recipe, 3)
    trials = Ledger.open(study).trials()
    assert [trial.status for trial in trials] == ["complete", "complete", "complete"]
    assert (trials[0].val_acc, trials[0].values) == (before.val_acc, before.values)
    assert [trial.missing for trial in trials] == [["folder"], [], []]


def test_another_seed_draws_other_values(recipe: Recipe, tmp_path: Path) -> None:
    drawn = []
    for seed in (3, 4):
        study = Study(tmp_path / f"seed-{seed}")
        search(study, recipe.model_copy(update={"seed": seed}), 1, events=1)
        drawn.append(Ledger.open(study).trials()[0].values["train.lr"])
    assert drawn[0] != drawn[1]


def test_a_worker_process_trains_as_this_process_does(
    recipe: Recipe, tmp_path: Path, undisturbed: Study
) -> None:
    first = Ledger.open(undisturbed).trials()[0]
    job = Job(0, recipe.for_trial(first.values), tmp_path / "trial-0000")
    events = list(run_jobs(in_order([job]), workers=1, devices=("cpu",)))
    assert [event.epoch.epoch if event.epoch else None for event in events] == [None, 1, 2, None]
    assert events[-1].summary == Summary.from_json(Run(job.folder).summary())
    assert rows(job.folder) == rows(first.run.path)


def commanded(tmp_path: Path, text: str = SMALL, **code: str) -> Callable[..., Outcome]:
    """`cnntune WORDS small.toml --json` in a folder with this recipe and these own modules."""
    (tmp_path / "small.toml").write_text(text)
    for module, source in code.items():
        (tmp_path / f"{module}.py").write_text(source)
    return lambda *words: call(words[0], "small.toml", *words[1:], "--json", cwd=tmp_path)


def test_a_trial_trained_again_from_its_config_gives_the_same_rows(tmp_path: Path) -> None:
    command = commanded(tmp_path)
    study = tmp_path / command("search", "--budget", "2").document["study"]
    for number in (0, 1):
        config = str(study.relative_to(tmp_path) / f"trial-{number:04d}" / "config.json")
        again = call("train", config, "--json", cwd=tmp_path).document
        assert rows(tmp_path / again["run"]) == rows(study / f"trial-{number:04d}")


def test_a_changed_recipe_is_refused_by_the_key_that_changed(tmp_path: Path) -> None:
    command = commanded(tmp_path)
    command("search", "--budget", "1")
    before = content(Study(tmp_path / "runs" / "small"))
    outcome = command("search", "--budget", "2", "--set", "train.momentum=0.5")
    assert outcome.code == 2
    first, second = outcome.document["errors"]
    assert "train.momentum: 0.9 there, 0.5 asked" in first
    assert "--study" in second
    assert content(Study(tmp_path / "runs" / "small")) == before


@pytest.mark.slow
def test_a_study_whose_space_would_be_refused_today_is_read_and_refined(tmp_path: Path) -> None:
    command = commanded(tmp_path)
    fractions = Range(0.2, 0.4)
    recipe = load_recipe(str(tmp_path / "small.toml"))
    space = {"train.lr": recipe.space["train.lr"], "data.val_fraction": fractions}
    study = Study(tmp_path / "runs/small")
    old = recipe.model_copy(update={"space": space})
    search(study, old, 3)
    study.record(old.as_toml(), device="cpu", code=tmp_path)
    asked = f"space.data.val_fraction={toml(fractions)}"
    (line,) = command("search", "--set", asked).document["errors"]
    assert line.startswith("--set: space.data.val_fraction: cannot be searched over: trials would")
    assert call("report", "small", cwd=tmp_path).code == 0
    refined = call("refine", "small", "--budget", "1", "--seeds", "1", "--json", cwd=tmp_path)
    assert "data.val_fraction" in refined.document["best"]["values"], refined.err


def test_a_changed_space_is_refused_too(tmp_path: Path) -> None:
    command = commanded(tmp_path)
    command("search", "--budget", "1")
    outcome = command("search", "--budget", "2", "--set", "space.train.lr={log = [1e-3, 1.0]}")
    assert outcome.code == 2
    assert "space.train.lr" in outcome.document["errors"][0]


def test_a_second_search_is_refused_while_the_first_one_runs(tmp_path: Path) -> None:
    command = commanded(tmp_path)
    with Study(tmp_path / "runs" / "small").lock():
        outcome = command("search", "--budget", "1")
    assert outcome.code == 2
    (line,) = outcome.document["errors"]
    assert "locked by another cnntune process" in line
    assert command("search", "--budget", "1").code == 0


def test_without_a_space_the_default_one_is_searched_and_said(tmp_path: Path) -> None:
    outcome = commanded(tmp_path, SMALL.partition("[space]")[0])("search", "--budget", "1")
    said = {finding["rule"]: finding["evidence"] for finding in outcome.document["findings"]}
    assert "no [space]" in said["space"]
    assert "train.lr" in said["space"]
    assert outcome.document["best"]["values"].keys() == {"train.lr", "train.weight_decay"}


def test_a_value_set_for_a_key_that_is_searched_is_said_to_change_nothing(tmp_path: Path) -> None:
    line = (
        "model.width is searched (2 | 4): --set model.width=3 has no effect; to fix its value:"
        " --set 'space.model.width={choice=[3]}'"
    )
    command = commanded(tmp_path)
    outcome = command("search", "--budget", "1", "--set", "model.width=3", "--set", "model.depth=1")
    said = [one for one in outcome.document["findings"] if one["rule"] == "space"]
    assert [(one["severity"], one["evidence"]) for one in said] == [("info", line)]
    assert " ".join(outcome.err.split()).count(line) == 1


def test_a_value_set_is_told_where_the_space_varies_it() -> None:
    rates, optimizers = Range(1e-3, 1e-1, log=True), Choice(("sgd", "adam"))
    space: dict[str, Dimension] = {"train.lr": rates, "train.optimizer": optimizers}
    sets = ["train={lr=0.5}", "train.optimizer=adam", "train.momentum=0.5"]
    assert [finding.evidence for finding in without_effect(space, sets)] == [
        "train.lr is searched (0.001 ... 0.1 (log)): --set train.lr=0.5 has no effect;"
        " to fix its value: --set 'space.train.lr={choice=[0.5]}'",
        'train.optimizer is searched (sgd | adam): --set train.optimizer="adam" has no effect;'
        " to fix its value: --set 'space.train.optimizer={choice=[\"adam\"]}'",
    ]
    assert without_effect({"train.lr": Choice((0.5,))}, ["train.lr=0.5"]) == []


@pytest.mark.parametrize(("optimizer", "usual"), [("sgd", 0.05), ("adam", 1e-3), ("adamw", 1e-3)])
def test_the_default_space_holds_the_usual_rate_of_the_optimizer(
    optimizer: str, usual: float
) -> None:
    rates = default_space(optimizer)["train.lr"]
    assert isinstance(rates, Range)
    assert rates.log
    assert 0.1 < rates.position(usual) < 0.95


def swept(study: Study, recipe: Recipe, low: float, high: float) -> None:
    """Leave the result of a sweep in the study."""
    document = {"lr": low, "range": [low, high], "recipe": recipe.as_values()}
    study.write("lr-sweep", document)


def test_the_rates_of_the_last_sweep_are_taken_over(recipe: Recipe, tmp_path: Path) -> None:
    study = Study(tmp_path)
    swept(study, recipe, 0.01, 0.3)
    prepared, (finding,) = prepare(recipe, study)
    assert prepared.space["train.lr"] == Range(0.01, 0.1, log=True)
    assert (finding.rule, finding.severity) == ("lr-range", "info")
    assert "0.01 to 0.1" in finding.evidence
    assert prepared.space["model.width"] == recipe.space["model.width"]


def test_a_search_that_was_killed_before_its_first_trial_says_again_what_it_took_over(
    recipe: Recipe, tmp_path: Path
) -> None:
    study = Study(tmp_path)
    swept(study, recipe, 0.01, 0.3)
    ledger, said = begin(study, recipe)
    assert [finding.rule for finding in said] == ["lr-range"]
    again, said_again = begin(study, recipe)
    assert (again.recipe, said_again) == (ledger.recipe, said)
    ledger.begin(ledger.recipe.space, {"train.lr": 0.05})
    assert begin(study, recipe)[1] == []


def test_rates_that_lie_outside_the_recipe_warn_and_change_nothing(
    recipe: Recipe, tmp_path: Path
) -> None:
    study = Study(tmp_path)
    swept(study, recipe, 0.3, 3.0)
    prepared, (finding,) = prepare(recipe, study)
    assert prepared.space == recipe.space
    assert (finding.rule, finding.severity) == ("lr-range", "warn")
    override = finding.advice.partition("--set '")[2].rstrip("'")
    assert load_recipe("digits", [override]).space["train.lr"] == Range(0.3, 3.0, log=True)


@pytest.mark.parametrize(
    "other",
    [
        {"model.norm": "none"},
        {"train.optimizer": "adam"},
        {"train.batch_size": 8},
        {"train.backbone_lr": 1.0},
        {"train.layer_decay": 0.75},
    ],
    ids=str,
)
def test_a_sweep_of_another_set_up_is_left_alone(
    recipe: Recipe, tmp_path: Path, other: dict[str, Any]
) -> None:
    swept(Study(tmp_path), recipe.with_values(other), 0.01, 0.03)
    assert prepare(recipe, Study(tmp_path)) == (recipe, [])


@pytest.mark.parametrize("key", ["train.momentum", "train.backbone_lr", "train.layer_decay"])
def test_where_a_key_is_searched_that_has_rates_of_its_own_a_sweep_is_left_alone(
    recipe: Recipe, tmp_path: Path, key: str
) -> None:
    searched = recipe.model_copy(update={"space": {**recipe.space, key: Range(0.1, 0.9)}})
    swept(Study(tmp_path), searched, 0.01, 0.03)
    assert prepare(searched, Study(tmp_path)) == (searched, [])


def test_a_sweep_that_found_no_rate_and_a_choice_of_rates_are_left_alone(
    recipe: Recipe, tmp_path: Path
) -> None:
    study = Study(tmp_path)
    chosen = recipe.model_copy(update={"space": {"train.lr": Choice((0.1, 0.2))}})
    swept(study, chosen, 0.01, 0.3)
    assert prepare(chosen, study) == (chosen, [])
    study.write("lr-sweep", {"lr": None, "range": None, "recipe": recipe.as_values()})
    assert prepare(recipe, study) == (recipe, [])


def test_ranges_intersect_where_both_allow_a_rate() -> None:
    def log(low: float, high: float) -> Range:
        return Range(low, high, log=True)

    assert intersect(log(1e-4, 1e-1), log(1e-2, 1.0)) == log(1e-2, 1e-1)
    assert intersect(log(1e-4, 1e-1), log(1e-5, 1.0)) == log(1e-4, 1e-1)
    assert intersect(log(1e-4, 1e-3), log(1e-2, 1.0)) is None


RAISING = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.width = nn.Linear(64, 10), width

    def forward(self, x):
        raise ValueError(MESSAGE)


def build(*, num_classes, in_shape, width=4, dropout=0.0):
    return Net(width)
"""
OWN = SMALL.replace("[model]", '[model]\nname = "own_net:build"')


def test_three_equal_errors_stop_a_search_with_the_users_frames(tmp_path: Path) -> None:
    alone = OWN.replace("model.width = { choice = [2, 4] }", "")  # an option might explain it
    command = commanded(tmp_path, alone, own_net=RAISING.replace("MESSAGE", '"no good"'))
    outcome = command("search", "--budget", "10")
    assert outcome.code == 2
    errors = outcome.document["errors"]
    assert "ValueError: no good" in errors[0]
    assert [line for line in errors if "own_net.py" in line and "in forward" in line]
    assert not [line for line in errors if "cnntune/" in line or "site-packages" in line]
    assert "3 consecutive trials" in errors[-1]
    assert "Traceback" not in outcome.err
    statuses = [trial.status for trial in Ledger.open(Study(tmp_path / "runs" / "small")).trials()]
    assert statuses == ["failed"] * 3


def test_errors_that_differ_in_numbers_alone_are_one_error(tmp_path: Path) -> None:
    source = "import itertools\ncount = itertools.count()\n" + RAISING
    source = source.replace("MESSAGE", 'f"number {next(count)}"')
    outcome = commanded(tmp_path, OWN, own_net=source)("search", "--budget", "4")
    assert outcome.code == 2
    assert "3 consecutive trials failed with the same error" in outcome.err


def test_errors_that_differ_fail_their_trials_and_the_search_goes_on(tmp_path: Path) -> None:
    source = "import itertools\ncount = itertools.count()\n" + RAISING
    source = source.replace("MESSAGE", 'f"case {chr(97 + next(count))}"')
    outcome = commanded(tmp_path, OWN, own_net=source)("search", "--budget", "4")
    assert outcome.code == 2  # as `train` with the same code
    assert outcome.document["trials"]["failed"] == 4
    assert outcome.document["best"] is None
    assert any("case a" in line for line in outcome.document["errors"])
    assert outcome.document["errors"][-1].startswith("4 trials failed, the first with this error")


EXPLODING = SMALL.replace(
    "train.lr = { log = [1e-3, 1e-1] }", "train.lr = { choice = [0.05, 1e6] }"
)


def test_a_trial_that_diverged_is_never_the_best(tmp_path: Path) -> None:
    outcome = commanded(tmp_path, EXPLODING)("search", "--budget", "6")
    found = Ledger.open(Study(tmp_path / "runs" / "small")).trials()
    statuses = {trial.values["train.lr"]: trial.status for trial in found}
    assert statuses == {0.05: "complete", 1e6: "diverged"}
    document = outcome.document
    assert document["best"]["values"]["train.lr"] == 0.05
    exploded = sum(trial.values["train.lr"] == 1e6 for trial in found)
    counted_once = {"complete": 6 - exploded, "diverged": exploded}
    assert document["trials"] == {"pruned": 0, "failed": 0, "running": 0} | counted_once
    listed = (tmp_path / "runs" / "small" / "trials.csv").read_text()
    assert listed.count(",diverged,") == exploded
    assert [f for f in document["findings"] if f["rule"] == "diverged-trials"]


def test_a_search_in_which_all_diverge_fails_and_has_no_best(tmp_path: Path) -> None:
    text = EXPLODING.replace("[0.05, 1e6]", "[1e6]")
    outcome = commanded(tmp_path, text)("search", "--budget", "2")
    assert outcome.code == 1
    assert outcome.document["best"] is None


def test_the_best_is_the_most_accurate_complete_trial_then_the_one_with_the_lower_loss() -> None:
    def trial(number: int, status: Status, acc: float | None, loss: float | None) -> Trial:
        return Trial(number, {}, Run(Path()), Summary(status, val_acc=acc, val_loss=loss))

    found = [
        trial(0, "complete", 0.8, 0.5),
        trial(1, "complete", 0.9, 0.7),
        trial(2, "complete", 0.9, 0.6),
        trial(3, "diverged", 0.99, 0.1),
        trial(4, "running", None, None),
    ]
    best = best_of(found)
    assert best is not None
    assert best.number == 2
    assert best_of(found[3:]) is None
    assert trial_findings(found[:3]) == []


# From here on real processes are interrupted and killed. The model of own_net.py trains as usual
# but for the build after the first TWO, which does what ON_THE_THIRD says.
OWN_NET = """
import os
import signal
import time
from pathlib import Path

from cnntune.models.small import small_cnn


def build(*, num_classes, in_shape, width=4, dropout=0.0):
    with open("builds", "a") as file:
        file.write("x")
    doing = os.environ.get("ON_THE_THIRD")
    if doing and Path("builds").stat().st_size >= 3:
        if doing.startswith("die "):
            if Path("builds").stat().st_size < 3 + int(doing.split()[1]):
                os.kill(os.getpid(), signal.SIGKILL)
        else:
            Path("hanging").touch()
            while True:
                time.sleep(0.1)
    return small_cnn(num_classes=num_classes, in_shape=in_shape, width=width, dropout=dropout)
"""
LONG = ("search", "small.toml", "--budget", "5", "--json")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(OWN)
    (tmp_path / "own_net.py").write_text(OWN_NET)
    return tmp_path


@contextlib.contextmanager
def hanging_search(folder: Path, workers: int) -> Iterator[subprocess.Popen[str]]:
    """A real search, in a process group of its own, that hangs in its third trial."""
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell may have said ignore
    try:
        process = subprocess.Popen(
            [*CNNTUNE, *LONG, "--workers", str(workers)],
            cwd=folder,
            env={**os.environ, "ON_THE_THIRD": "hang"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        until(lambda: (folder / "hanging").exists() or process.poll() is not None)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(process: "subprocess.Popen[str]") -> Outcome:
    """Waits for all that hold the stderr of the process: itself and every worker."""
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return Outcome(process.returncode, out, err)


def assert_resumes_to_the_same_search(own: Path, tmp_path_factory: Any) -> None:
    """The interrupted search of `own`, run again, equals one that ran through elsewhere."""
    resumed = run(*LONG, "--workers", "2", cwd=own)
    assert resumed.code == 0, resumed.err
    assert resumed.document["trials"]["complete"] == 5
    through = tmp_path_factory.mktemp("through")
    (through / "small.toml").write_text(OWN)
    (through / "own_net.py").write_text(OWN_NET)
    assert call(*LONG, cwd=through).code == 0
    assert content(Study(own / "runs/small")) == content(Study(through / "runs/small"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_exits_with_130_and_the_search_resumes(
    own: Path, workers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with hanging_search(own, workers) as process:
        second = run(*LONG, cwd=own)
        assert second.code == 2
        assert "locked by another cnntune process" in second.document["errors"][0]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        outcome = ended(process)
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert_resumes_to_the_same_search(own, tmp_path_factory)


@pytest.mark.slow
def test_a_killed_coordinator_leaves_no_worker_and_the_search_resumes(
    own: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with hanging_search(own, workers=2) as process:
        process.kill()  # the coordinator alone
        outcome = ended(process)  # would wait for ever for a worker that lives on
    assert outcome.code == -signal.SIGKILL
    assert_resumes_to_the_same_search(own, tmp_path_factory)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_trial_trained_all_the_same(
    own: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outcome = run(*LONG, "--workers", "1", cwd=own, ON_THE_THIRD="die 1")
    assert outcome.code == 0, outcome.err
    assert_resumes_to_the_same_search(own, tmp_path_factory)


@pytest.mark.slow
def test_a_trial_that_kills_every_worker_fails_and_the_search_goes_on(own: Path) -> None:
    outcome = run(*LONG, "--workers", "1", cwd=own, ON_THE_THIRD="die 5")
    assert outcome.code == 0, outcome.err
    counts = outcome.document["trials"]
    assert (counts["complete"], counts["failed"]) == (4, 1)
    (finding,) = (f for f in outcome.document["findings"] if f["rule"] == "failed-trials")
    assert finding["severity"] == "warn"
    assert "process died 5 times" in finding["evidence"]


def test_a_trial_killed_between_its_last_epoch_and_its_end_gets_its_end(
    tmp_path: Path, recipe: Recipe, undisturbed: Study
) -> None:
    study = Study(tmp_path / "runs" / "small")
    search(study, recipe, BUDGET, events=3)  # the first trial's begin and its two epochs
    (study.trial(0).path / "summary.json").unlink(missing_ok=True)
    assert len(study.trial(0).rows()) == 2
    search(study, recipe, BUDGET)
    assert content(study) == content(undisturbed)


@pytest.mark.slow
def test_one_worker_and_two_give_the_same_search(tmp_path: Path, undisturbed: Study) -> None:
    for workers in ("1", "2"):
        folder = tmp_path / workers
        folder.mkdir()
        (folder / "small.toml").write_text(SMALL)
        words = ("search", "small.toml", "--budget", str(BUDGET), "--workers", workers, "--json")
        assert run(*words, cwd=folder).code == 0
        assert content(Study(folder / "runs/small")) == content(undisturbed)


@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_when_no_more_is_to_begin_what_has_begun_comes_to_its_end(
    recipe: Recipe, tmp_path: Path, pruner: str
) -> None:
    recipe = recipe.with_values({"search.epochs": 3, "search.pruner": pruner})
    study = Study(tmp_path / "study")
    ledger = Ledger.create(study, recipe, asked=recipe)
    over = Deadline.after(0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials_room, "run_jobs", one_after_the_other)
        place = ("cpu",)
        list(run_trials(ledger, budget=9, workers=1, devices=place, begin_until=over, at_least=3))
    ends = sorted(trial.status for trial in ledger.trials())
    assert ends == (["complete"] * 3 if pruner == "none" else ["complete", "pruned", "pruned"])


def test_a_search_that_time_ends_goes_on_as_if_it_had_not_been(
    recipe: Recipe, tmp_path: Path, undisturbed: Study
) -> None:
    words = ("search", "small.toml", "--json", "--budget", str(BUDGET), "--workers", "1")
    early = call(*words, "--timeout", "0.01", cwd=tmp_path)  # over before the first epoch is
    assert early.document["trials"]["running"] <= 1
    (finding,) = (one for one in early.document["findings"] if one["rule"] == "timeout")
    assert finding["advice"] == "run the same command again to resume them"
    assert call(*words, cwd=tmp_path).code == 0
    assert content(Study(tmp_path / "runs/small")) == content(undisturbed)


@pytest.mark.slow
def test_the_deadline_ends_workers_in_the_middle_of_a_run_which_goes_on_later(
    recipe: Recipe, tmp_path: Path
) -> None:
    job = Job(0, recipe.for_trial({"train.epochs": 10**6}), tmp_path / "trial-0000")
    for _ in range(2):
        time_limit = Deadline.after(15.0)
        pool = run_jobs(in_order([job]), workers=1, devices=("cpu",), deadline=time_limit)
        assert all(event.summary is None for event in pool)
    epochs = [row.epoch for row in Run(job.folder).rows()]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) > 1
    assert Run(job.folder).summary() is None


def test_whole_numbers_of_the_table_stay_whole_beside_a_trial_that_failed(tmp_path: Path) -> None:
    found = Summary("complete", 3, 1, val_acc=0.5, val_loss=1.5)
    failed = Summary.failed("user-code", "ValueError: no")
    summaries = enumerate((found, failed))
    trials = [Trial(n, {"train.lr": 0.1}, Run(tmp_path / f"trial-000{n}"), s) for n, s in summaries]
    frame = table(trials)
    assert frame["best_epoch"].map(str).tolist() == ["1", "<NA>"]
    assert (
        frame.to_csv(index=False, columns=["epochs", "best_epoch"])
        == "epochs,best_epoch\n3,1\n0,\n"
    )
