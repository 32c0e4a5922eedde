"""A search over a command: what is typed, what a trial's command does, what is read of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import CNNTUNE, call, run

from cnntune.cli.screen import score_text
from cnntune.config.command import CommandRecipe, CommandSection, parse_command, stored_recipe
from cnntune.diagnosis.judge import judge_runs
from cnntune.diagnosis.live import Logs, Metric
from cnntune.diagnosis.load_runs import read_paths
from cnntune.errors import RecipeError, ScriptError, StudyError
from cnntune.runs.run import Run, logged
from cnntune.runs.study import Study
from cnntune.runs.summary import Ranked, Summary
from cnntune.script.command import absolute, check_startable, environment, mark_of
from cnntune.script.launch import marked
from cnntune.study.ledger import Ledger, value_of
from cnntune.workers.command_worker import Runner
from cnntune.workers.pool import Job

SPACE = {"train": {"lr": {"log": [1e-4, 1e-1]}}}
PRINTS = """
import sys, time
for epoch in range(1, 4):
    print(f"epoch {epoch} train_loss {1 / epoch:.4f} val_loss {1.5 / epoch:.4f} val_acc 0.{epoch}5")
"""
WRITES_CSV = """
print("training")
with open("log.csv", "w") as log:
    log.write("epoch,train_loss,val_loss\\n")
    for epoch in (1, 2, 3):
        log.write(f"{epoch},{1 / epoch},{3 - epoch}\\n")
        log.flush()
"""
FAILS = """
import sys
print("epoch 1 val_acc 0.5")
def train():
    raise ValueError("no such optimizer")
train()
"""
HANGS = """
import time
print("epoch 1 val_acc 0.5")
print("epoch 2 val_acc 0.6")
time.sleep(600)
"""
FORKS = """
import os, subprocess, sys, time
child = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(child, start_new_session=True)
print("epoch 1 val_acc 0.5")
print("epoch 2 val_acc 0.6")
time.sleep(600)
"""


def recipe_of(*words: str, folder: Path = Path(), **more: Any) -> CommandRecipe:
    """The recipe of a command over a learning rate."""
    named = {key: more.pop(key) for key in ("metric", "override", "here") if key in more}
    section = CommandSection.model_validate({"words": [*words], "folder": str(folder), **named})
    return parse_command({"space": SPACE, **more}, section, file="space.toml")


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """The job of a trial that runs a script; nothing of it is left afterwards."""

    def made(script: str, *, until: int | None = None, **more: object) -> Job:
        (tmp_path / "train.py").write_text(script)
        words = [sys.executable, "train.py"] + ["{train.lr}"] * ("override" not in more)
        trial = recipe_of(*words, folder=tmp_path, **more).for_trial({"train.lr": 0.01})
        return Job(0, trial, tmp_path / "runs" / "own" / "trial-0000", until=until)

    yield made
    assert not marked(mark_of(tmp_path / "runs" / "own" / "trial-0000"))


def summary_of(job: Job) -> Summary:
    """How a job ends."""
    runner = Runner("")
    *_, last = runner.run(job)
    assert last.summary is not None
    assert Run(job.folder).summary() == last.summary.to_json()
    return last.summary


def lines(*words: str, **values: Any) -> list[str]:
    """What is wrong with a command and its space."""
    with pytest.raises(RecipeError) as error:
        recipe_of(*words, **values)
    return error.value.lines


# What is typed


def test_placeholders_become_values_and_doubled_braces_are_braces() -> None:
    found = recipe_of("python", "t.py", "--lr={train.lr}", '{{"seed": {seed}}}')
    trial = found.for_trial({"train.lr": 0.00125})
    assert trial.words() == ["python", "t.py", "--lr=0.00125", '{"seed": 0}']
    assert stored_recipe(trial.as_values(), file="config.json") == trial
    assert json.loads(json.dumps(trial.as_values()))["train"] == {"lr": 0.00125}


def test_a_command_is_told_true_and_words_as_toml_writes_them() -> None:
    space = {"on": {"choice": [True, False]}, "name": {"choice": ["adam w", "sgd"]}}
    section = CommandSection(words=["x", "{on}", "{opt.name}"], folder="/")
    values = {"space": {"on": space["on"], "opt": {"name": space["name"]}}}
    found = parse_command(values, section, file="space.toml")
    assert found.for_trial({"on": True, "opt.name": "adam w"}).words() == ["x", "true", "adam w"]


def test_an_unknown_placeholder_is_named_with_those_that_exist() -> None:
    (unknown, unused) = lines("python", "{train.rl}")
    assert unknown == (
        "-- {train.rl}: {train.rl}: unknown key; did you mean 'train.lr'?;"
        " allowed: train.lr, seed, search.epochs"
    )
    assert unused.startswith("space.toml: space.train.lr: is not used by the command")


def test_a_single_brace_has_to_be_doubled() -> None:
    assert lines("x", "{train.lr}", "a{b") == ["-- a{b: a literal { must be written {{"]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"space": {"seed": {"choice": [1, 2]}}}, "space.seed"),
        ({"search": {"epoch": 3}}, "search.epoch"),
        ({"data": {"name": "digits"}}, "data.name"),
        ({"search": {"pruner": "halving"}}, "search.epochs"),
        ({"space": {"train": {"lr": {"log": [1, 0]}}}}, "space.train.lr"),
    ],
)
def test_what_a_command_cannot_use_is_a_line_with_its_key(
    values: dict[str, object], key: str
) -> None:
    assert any(
        line.startswith(f"space.toml: {key}: ") for line in lines("x", "{train.lr}", **values)
    )


@pytest.mark.parametrize(
    ("space", "word", "line"),
    [
        ({"batch": [16, 32]}, "{batch}", "space.batch: must be { log = [low, high] }"),
        ({"train": {"lr": {"log": [0, 1]}}}, "{train.lr}", "space.train.lr: log needs numbers > 0"),
    ],
)
def test_a_wrong_range_is_one_line_and_its_placeholder_none(
    space: dict[str, object], word: str, line: str
) -> None:
    (only,) = lines("x", word, space=space)
    assert only.startswith(f"space.toml: {line}")


def test_epochs_in_the_command_need_a_number() -> None:
    (line,) = lines("x", "{train.lr}", "{search.epochs}")
    assert "--epochs N" in line


def test_only_the_learning_rate_can_be_overridden_and_not_twice() -> None:
    assert lines("x", "{train.lr}", override=["model.width"])[0].startswith("--override: must be")
    assert "is in the command too" in lines("x", "{train.lr}", override=["train.lr"])[0]
    assert recipe_of("x", override=["train.lr"]).for_trial({"train.lr": 0.5}).overrides() == {
        "train.lr": 0.5
    }


def test_later_rounds_draw_no_value_of_another_kind() -> None:
    space = {"p": {"uniform": [0.0, 0.5]}, "shift": {"uniform": [-1.0, 2.0]}}
    section = CommandSection(words=["x", "{p}", "{shift}"], folder="/")
    found = parse_command({"space": space}, section, file="space.toml")
    assert [found.allows("p", value) for value in (-0.1, 0.7, 1.2)] == [False, True, False]
    assert found.allows("shift", -3.0)
    assert not found.allows("train.weight_decay", 0.1)


def test_words_that_name_files_are_found_from_the_folder_of_a_trial(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    (tmp_path / "cifar10").mkdir()
    assert absolute("train.py", tmp_path) == str(tmp_path / "train.py")
    assert absolute("--data=./cifar10", tmp_path) == f"--data={tmp_path / './cifar10'}"
    for word in ("cifar10", "other.py", "-m", "pkg.train", "0.01"):
        assert absolute(word, tmp_path) == word


def test_a_program_that_does_not_exist_is_known_before_any_trial(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="pyton: cannot be started: no such program"):
        check_startable("pyton", tmp_path)


def test_a_trial_sees_the_gpu_of_its_worker_and_the_modules_of_the_folder(tmp_path: Path) -> None:
    seen = environment({"PYTHONPATH": "/lib"}, home=tmp_path, device="gpu:3")
    assert seen["CUDA_VISIBLE_DEVICES"] == "3"
    assert seen["PYTHONPATH"] == f"{tmp_path}{os.pathsep}/lib"
    assert environment({}, home=tmp_path, device="cpu")["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in environment({}, home=tmp_path, device="")


# What a trial's command does


def test_printed_metrics_become_the_rows_of_a_trial(job: Callable[..., Job]) -> None:
    asked = job(PRINTS)
    summary = summary_of(asked)
    assert (summary.status, summary.epochs, summary.best_epoch) == ("complete", 3, 3)
    assert (summary.val_acc, summary.val_loss) == (0.35, 0.5)
    assert summary.metric == "val_acc from 'val_acc' in stdout.txt"
    rows = Run(asked.folder).rows()
    assert [(row.epoch, row.train_loss, row.val_acc) for row in rows] == [
        (1, 1.0, 0.15),
        (2, 0.5, 0.25),
        (3, 0.3333, 0.35),
    ]
    assert logged(rows[0].train_acc) is None
    assert "epoch 3" in (asked.folder / "stdout.txt").read_text()


def test_a_script_that_logs_no_accuracy_is_ranked_by_its_loss(job: Callable[..., Job]) -> None:
    asked = job(WRITES_CSV)
    summary = summary_of(asked)
    assert (summary.val_acc, summary.val_loss, summary.score) == (None, 0.0, 0.0)
    assert summary.metric == "val_loss from 'val_loss' in log.csv"
    assert (asked.folder / "work" / "log.csv").is_file()  # each trial has its own
    assert "1,,1.0,,2.0,,," in (asked.folder / "metrics.csv").read_text()


def test_diagnose_judges_the_folder_of_a_trial(job: Callable[..., Job]) -> None:
    asked = job(WRITES_CSV)
    summary_of(asked)
    runs, _ = read_paths([asked.folder])
    (judged,) = judge_runs(runs)
    assert judged.diagnosis.label == "still-improving"
    assert judged.command is None  # `cnntune train` cannot repeat it


def test_a_script_that_fails_keeps_its_last_lines(job: Callable[..., Job]) -> None:
    error = summary_of(job(FAILS)).error
    assert error is not None
    first, *more, last = error.message.splitlines()
    assert first == "the command ended with exit code 1"
    assert last == "ValueError: no such optimizer"
    assert any(line.endswith('train.py", line 6, in <module>') for line in more)
    assert error.by_user


OPENS = """
import os
print("epoch 1 val_acc 0.5")
open({path})
"""


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("'data/labels.txt'", "data/labels.txt"),
        ("os.path.abspath('data/labels.txt')", "data/labels.txt"),
        ("'data/new.csv', 'w'", "data"),  # where it was about to write
    ],
)
def test_a_file_that_lies_where_the_search_was_started_names_here(
    job: Callable[..., Job], tmp_path: Path, path: str, named: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/labels.txt").write_text("cat")
    error = summary_of(job(OPENS.format(path=path))).error
    assert error is not None
    first, *_, last = error.message.splitlines()
    assert first == (
        f"the command ended with exit code 1: {named} is not in the trial's own folder, where it"
        f" runs, but in {tmp_path}; let the command run there with --here, or give it the path as a"
        f" word: {tmp_path / named}"
    )
    assert last.startswith("FileNotFoundError")
    assert error.line == f"{first} ({last})"


def test_a_script_whose_name_is_mistyped_is_named_as_it_is_spelled(
    job: Callable[..., Job], tmp_path: Path
) -> None:
    asked = job("")
    words = [sys.executable, "trian.py", "{train.lr}"]
    recipe = recipe_of(*words, folder=tmp_path).for_trial({"train.lr": 0.01})
    error = summary_of(replace(asked, recipe=recipe)).error
    assert error is not None
    assert error.message.startswith(
        f"the command ended with exit code 2: {tmp_path} has no trian.py;"
        " did you mean 'train.py'?\n"
    )


@pytest.mark.parametrize("more", [{}, {"here": True}], ids=["own folder", "here"])
def test_a_file_that_lies_nowhere_is_no_matter_of_folders(
    job: Callable[..., Job], tmp_path: Path, more: dict[str, bool]
) -> None:
    if more:
        (tmp_path / "labels").mkdir()  # a folder, which cannot be opened
    error = summary_of(job(OPENS.format(path="'labels/x.txt'"), **more)).error
    assert error is not None
    assert error.message.startswith("the command ended with exit code 1\n")


@pytest.mark.parametrize("ending", ["os.kill(os.getpid(), 9)", "sys.exit(137)"])
def test_a_command_that_the_system_kills_is_tried_again_alone(
    job: Callable[..., Job], ending: str
) -> None:
    asked = job(f"import os, sys\nprint('epoch 1 val_acc 0.5')\n{ending}\n")
    *_, last = Runner("").run(asked)
    assert last.again
    error = summary_of(replace(asked, alone=True)).error
    assert error is not None
    assert error.kind == "killed"
    assert error.message.startswith("the command was ended by SIGKILL; the system kills")


def test_the_users_own_line_of_a_long_traceback_is_kept(job: Callable[..., Job]) -> None:
    deep = "def down(n):\n    return down(n - 1) + 0 if n else 1 / 0 + 0\n"
    deep += "".join(f"def f{n}(): return f{n + 1}()\n" for n in range(60))
    error = summary_of(job(f"{deep}f60 = lambda: down(0)\nf0()\n")).error
    assert error is not None
    assert "in <module>" in error.message
    assert error.message.endswith("ZeroDivisionError: division by zero")
    assert "more lines" in error.message


def test_a_script_without_a_metric_says_where_was_looked(job: Callable[..., Job]) -> None:
    error = summary_of(job("print('done')")).error
    assert error is not None
    assert error.message == (
        "no loss and no accuracy was found in stdout.txt, stderr.txt: no column found;"
        " name one with --metric"
    )


def test_any_printed_number_can_be_the_metric(job: Callable[..., Job]) -> None:
    script = "for n in (3, 9, 4.5):\n    print('episode', n, 'reward:', n * 10)\n"
    summary = summary_of(job(script, metric="reward:max"))
    assert (summary.best_epoch, summary.val_loss, summary.score) == (2, -90.0, 90.0)
    assert summary.ranked == Ranked("reward", 90.0)
    assert summary.metric == "'reward' in stdout.txt, more is better"
    assert score_text(summary) == "reward 90.0000"
    assert Summary.from_json(json.loads(json.dumps(summary.to_json()))) == summary


def test_a_loss_beside_a_cost_is_logged_and_not_compared_with_it(job: Callable[..., Job]) -> None:
    values = "[(2.0, 30.0), (1.0, 20.0), (0.5, 15.0), (0.3, 13.0), (0.2, 12.5), (0.15, 12.4)]"
    script = f"for loss, cost in {values}:\n    print('loss:', loss, 'latency:', cost)\n"
    made = job(script, metric="latency:min")
    assert summary_of(made).ranked == Ranked("latency", 12.4, -1.0)
    (judged,) = judge_runs(read_paths([made.folder])[0])
    assert list(judged.curve.train_loss) == [2.0, 1.0, 0.5, 0.3, 0.2, 0.15]
    assert not judged.curve.one_unit


@pytest.mark.parametrize(
    ("printed", "metric", "shown"),
    [
        ("val_bleu", "", "val_bleu 40.0000"),  # in percent: 0.4 is what trials are compared by
        ("bleu", "bleu", "bleu 40.0000"),
        ("val_rmse", "", "val_rmse 20.0000"),
        ("val_wer", "", "val_wer 20.0000"),
        ("cost", "cost:min", "cost 20.0000"),
        ("val_loss", "", "val loss 20.0000"),
        ("val_acc", "", "val acc 0.4000"),
    ],
)
def test_what_ranks_is_shown_under_its_name_as_it_was_logged(
    printed: str, metric: str, shown: str, job: Callable[..., Job]
) -> None:
    script = f"for n in (30, 40, 20):\n    print('{printed}:', n * 1.0)\n"
    summary = summary_of(job(script, metric=metric))
    assert score_text(summary) == shown


@pytest.mark.parametrize(
    ("printed", "metric", "role", "note"),
    [
        ("loss: 2 bleu", "", "train_acc", "train acc is 'bleu' / 100"),
        ("bleu", "bleu", "val_acc", "val acc is 'bleu' / 100"),
        ("val_wer", "", "val_acc", "val acc is 1 - 'val_wer' / 100"),
        ("reward", "reward:max", "val_loss", "val loss is 'reward' with its sign turned"),
    ],
)
def test_diagnose_says_which_curve_holds_the_number_that_ranks(
    printed: str, metric: str, role: str, note: str, job: Callable[..., Job]
) -> None:
    asked = job(f"for n in (20, 30, 40):\n    print('{printed}:', n * 1.0)\n", metric=metric)
    name = printed.rpartition(" ")[2]
    assert summary_of(asked).ranked is not None
    (run,) = read_paths([asked.folder])[0]
    assert run.columns[role] == name
    assert [each for each in run.notes if name in each and each.startswith(note)]
    others = {"val_acc", "val_loss", "train_acc", "train_loss"} - {role}
    assert name not in {run.columns[other] for other in others}


def test_out_of_memory_is_tried_again_alone(job: Callable[..., Job]) -> None:
    script = "raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')"
    (event,) = Runner("").run(job(script))
    assert event.again


def test_nan_losses_are_a_diverged_trial(job: Callable[..., Job]) -> None:
    script = "for loss in ('2.0', 'nan', 'nan'):\n    print('val_loss', loss, 'val_acc 0.1')\n"
    assert summary_of(job(script)).status == "diverged"


def test_a_script_that_is_not_told_its_epochs_is_ended_after_them(job: Callable[..., Job]) -> None:
    summary = summary_of(job(HANGS, search={"epochs": 2}))
    assert (summary.status, summary.epochs, summary.val_acc) == ("complete", 2, 0.6)


def test_a_command_that_forks_leaves_nothing_behind(job: Callable[..., Job]) -> None:
    asked = job(FORKS, until=2, search={"epochs": 5})
    runner = Runner("")
    events = list(runner.run(asked))
    assert [event.epoch.val_acc for event in events if event.epoch] == [0.5, 0.6]
    assert events[-1].paused
    assert len(marked(mark_of(asked.folder))) == 2  # it runs on until there is another job
    runner.end()
    assert not marked(mark_of(asked.folder))


def test_a_command_that_begins_anew_keeps_the_rows_that_are_logged(job: Callable[..., Job]) -> None:
    asked = job(HANGS, until=2, search={"epochs": 5})
    runner = Runner("")
    list(runner.run(asked))
    runner.end()
    before = (asked.folder / "metrics.csv").read_text()
    (asked.folder.parents[2] / "train.py").write_text(PRINTS)
    summary = summary_of(Job(0, asked.recipe, asked.folder))
    assert summary.epochs == 3
    after = (asked.folder / "metrics.csv").read_text()
    assert after.startswith(before)
    assert [row.val_acc for row in Run(asked.folder).rows()] == [0.5, 0.6, 0.35]


def test_the_learning_rate_is_set_at_the_optimizer(job: Callable[..., Job], tmp_path: Path) -> None:
    torch = tmp_path / "torch"  # the two modules that are patched, in Python alone
    (torch / "optim").mkdir(parents=True)
    (torch / "__init__.py").write_text("from torch import optim\n")
    (torch / "optim" / "__init__.py").write_text(
        "from torch.optim import lr_scheduler\n"
        "class Optimizer:\n"
        "    def __init__(self, groups, defaults):\n"
        "        self.defaults, self.param_groups = defaults, []\n"
        "        for group in groups:\n"
        "            self.add_param_group(group)\n"
        "    def add_param_group(self, group):\n"
        "        self.param_groups.append({**self.defaults, **group})\n"
    )
    (torch / "optim" / "lr_scheduler.py").write_text("")
    script = (
        "import torch\n"
        "opt = torch.optim.Optimizer([{'lr': 0.5}, {}], {'lr': 0.1})\n"
        "opt.add_param_group({})\n"
        "print('val_loss', *[round(g['lr'], 6) for g in opt.param_groups])\n"
    )
    asked = job(script, override=["train.lr"])
    assert summary_of(asked).val_loss == 0.01
    assert (asked.folder / "stdout.txt").read_text() == "val_loss 0.01 0.002 0.002\n"
    assert "learning rate 0.5 -> 0.01 (Optimizer)" in (asked.folder / "stderr.txt").read_text()


def test_an_override_that_reached_no_optimizer_is_an_error(job: Callable[..., Job]) -> None:
    error = summary_of(job(PRINTS, override=["train.lr"])).error
    assert error is not None
    assert error.message.startswith("--override train.lr: the script made no optimizer")


def searched(folder: Path, *words: str, ends: Sequence[Summary], **more: Any) -> Ledger:
    """The record of a search over `words` whose trials ended so."""
    recipe = recipe_of(*words, **more)
    ledger = Ledger.create(Study(folder), recipe, asked=recipe)
    for number, end in enumerate(ends):
        ledger.begin(recipe.space, {"train.lr": 0.001 * (number + 1)})
        Study(folder).trial(number).finish(end.to_json())
        ledger.tell(number, end)
    return ledger


def test_a_command_of_which_no_trial_could_be_run_can_be_corrected(tmp_path: Path) -> None:
    failed = [Summary.failed("user-code", "no option --rl")] * 2
    searched(tmp_path, "x", "--rl", "{train.lr}", ends=failed)
    corrected = searched(tmp_path, "x", "--lr", "{train.lr}", here=True, ends=())
    again = Ledger.open(corrected.reopened().study)
    assert [trial.status for trial in again.trials()] == ["running", "running"]
    assert [trial.values["train.lr"] for trial in again.trials()] == [0.001, 0.002]
    recipe = again.recipe
    assert isinstance(recipe, CommandRecipe)
    assert recipe.command.words == ["x", "--lr", "{train.lr}"]
    assert recipe.command.here
    searched(tmp_path, "x", "--lr", "{train.lr}", here=True, ends=())  # and is resumed as it is


@pytest.mark.parametrize(
    ("end", "more"),
    [
        (Summary("complete", 1, val_acc=0.5), {}),
        (Summary.failed("killed", "the command was ended by SIGKILL"), {}),
        (Summary.failed("user-code", "no option --rl"), {"seed": 7}),
    ],
    ids=["a result", "a result about memory", "another seed"],
)
def test_another_command_is_another_study_where_a_trial_was_run(
    tmp_path: Path, end: Summary, more: dict[str, int]
) -> None:
    searched(tmp_path, "x", "--rl", "{train.lr}", ends=[end])
    with pytest.raises(StudyError, match=r"holds another recipe: command\.words"):
        searched(tmp_path, "x", "--lr", "{train.lr}", ends=(), **more)


# What is read


def logs_of(tmp_path: Path, text: str, metric: str = "") -> Logs:
    """The logs of a script that printed a text."""
    printed = tmp_path / "stdout.txt"
    printed.write_text(text)
    (tmp_path / "work").mkdir(exist_ok=True)
    return Logs([printed], tmp_path / "work", Metric.parse(metric))


def test_an_evaluation_counts_once_all_its_columns_are_there(tmp_path: Path) -> None:
    logs = logs_of(tmp_path, "epoch 1 loss 0.9\nval_acc 0.5\n")
    first = logs.read(ended=False)
    assert first is not None
    assert not first.settled()  # a column may be missing from the first one
    with (tmp_path / "stdout.txt").open("a") as out:
        out.write("epoch 2 loss 0.8\nval_acc 0.62")  # half a number, perhaps
    torn = logs.read(ended=False)
    assert torn is None or len(torn.settled()) <= 1
    with (tmp_path / "stdout.txt").open("a") as out:
        out.write("5\n")
    whole = logs.read(ended=False)
    assert whole is not None
    assert [one["val_acc"] for one in whole.settled()] == [0.5, 0.625]


@pytest.mark.parametrize("before", ["epoch {n} ", ""])
def test_the_losses_beside_a_named_number_are_logged_with_it(tmp_path: Path, before: str) -> None:
    line = before + "loss: {loss} reward: {reward}\n"
    values = ((1, 2.5, 10.0), (2, 2.25, 31.5), (3, 2.0, 40.0))
    text = "".join(line.format(n=n, loss=loss, reward=reward) for n, loss, reward in values)
    found = logs_of(tmp_path, text, "reward:max").read(ended=True)
    assert found is not None
    assert (found.column, found.times) == ("reward", 1.0)
    assert [one["train_loss"] for one in found.evaluations] == [2.5, 2.25, 2.0]
    assert [one["val_loss"] for one in found.evaluations] == [-10.0, -31.5, -40.0]


def test_losses_of_batches_are_not_those_of_a_number_that_is_printed_per_epoch(
    tmp_path: Path,
) -> None:
    text = "".join(f"epoch {n}\nloss: 3.0\nloss: 2.5\nloss: 2.0\nreward: {n}0\n" for n in (1, 2, 3))
    found = logs_of(tmp_path, text, "reward:max").read(ended=True)
    assert found is not None
    assert [dict(one) for one in found.evaluations] == [
        {"val_loss": -10.0},
        {"val_loss": -20.0},
        {"val_loss": -30.0},
    ]


def test_a_validation_ranks_before_the_training(tmp_path: Path) -> None:
    logs = logs_of(tmp_path, "train_loss 2.0 train_acc 0.9 val_loss 3.0\n" * 2)
    found = logs.read(ended=True)
    assert found is not None
    assert found.role == "val_loss"


def test_a_final_test_accuracy_does_not_rank_a_curve_of_losses(tmp_path: Path) -> None:
    epochs = "".join(f"epoch {n} loss {1 / n:.3f} val_loss {2 / n:.3f}\n" for n in range(1, 7))
    found = logs_of(tmp_path, f"{epochs}test accuracy 0.91\n").read(ended=True)
    assert found is not None
    assert (found.role, len(found.evaluations)) == ("val_loss", 6)


@pytest.mark.parametrize(
    ("typed", "role"),
    [("val_loss", "val_loss"), ("top1", "val_acc"), ("train_loss", "train_loss")],
)
def test_the_direction_follows_from_the_name(typed: str, role: str) -> None:
    metric = Metric.parse(typed)
    assert metric is not None
    assert metric.known
    assert metric.role() == role
    assert not Metric("reward").known
    assert Metric.parse("cost:min") == Metric("cost", "min")


def test_a_value_of_optuna_orders_losses_and_lies_above_a_diverged_trial() -> None:
    losses = [1e9, 100.0, 1.0, 0.0, -5.0]
    values = [value_of(Summary("complete", 1, val_loss=loss)) for loss in losses]
    assert values == sorted(values)
    assert value_of(Summary("diverged", 1)) == 0.0 < values[0]
    assert value_of(Summary("complete", 1, val_loss=1.0)) == 0.25
    assert value_of(Summary("complete", 1, val_acc=0.7, val_loss=1.0)) == 0.7


# Whole searches, in processes of their own

TRAINS = """
import argparse, math, time
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--pause", type=float, default=0.05)
options = parser.parse_args()
best = 1 / (1 + abs(math.log10(options.lr) + 2))
for epoch in range(1, 7):
    time.sleep(options.pause)
    acc = best * (1 - math.exp(-epoch))
    print(f"epoch {epoch} train_loss {1 - acc:.4f} val_loss {1.1 - acc:.4f} val_acc {acc:.4f}")
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a script, the one of `TRAINS`, and its space."""
    (tmp_path / "train.py").write_text(TRAINS)
    (tmp_path / "space.toml").write_text("[space]\ntrain.lr = { log = [1e-4, 1e-1] }\n")
    return tmp_path


COMMAND = ("--", sys.executable, "train.py", "--lr", "{train.lr}")


def leftovers(home: Path) -> list[int]:
    """Processes whose command line names the script."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(home / "train.py") in path.read_text():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def gone(home: Path) -> bool:
    """Whether the scripts end within some seconds."""
    until = time.monotonic() + 15
    while leftovers(home) and time.monotonic() < until:
        time.sleep(0.05)
    return not leftovers(home)


@pytest.mark.slow
def test_a_search_over_a_command_is_pruned_refined_reported_and_diagnosed(home: Path) -> None:
    search = ("search", "space.toml", "--budget", "6", "--workers", "2", "--epochs", "6")
    done = run(*search, "--pruner", "halving", "--json", *COMMAND, cwd=home)
    assert done.code == 0, done.err
    document = done.document
    assert document["trials"]["complete"] == 2
    assert document["trials"]["pruned"] == 4
    accs = {
        path.parent.name: json.loads(path.read_text())["val_acc"]
        for path in home.glob("runs/space/trial-*/summary.json")
    }
    assert document["best"]["val_acc"] == max(accs.values())
    refined = run("refine", "--budget", "2", "--seeds", "1", "--json", cwd=home)
    assert refined.code == 0, refined.err
    assert refined.document["trials"]["complete"] == 2
    assert refined.document["candidates"][0]["mean"] >= max(accs.values())
    reported = run("report", cwd=home)
    assert reported.code == 0, reported.err
    assert "train.py --lr" in (home / "runs/space/report.html").read_text()
    judged = run("diagnose", "runs/space", "--json", cwd=home)
    assert judged.code == 0, judged.err
    assert len(judged.document["runs"]) == 6 + 2 + 3
    assert gone(home)


@pytest.mark.slow
def test_a_search_that_is_killed_leaves_no_script_and_resumes(home: Path) -> None:
    words = ("search", "space.toml", "--budget", "4", "--workers", "2", *COMMAND)
    whole = run(*words[:-5], "--study", "whole", "--json", *COMMAND, cwd=home)
    for _ in range(3):
        process = subprocess.Popen([*CNNTUNE, *words], cwd=home, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while not leftovers(home) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.2)
        process.kill()
        process.wait()
        assert gone(home)
    resumed = run(*words[:-5], "--json", *COMMAND, cwd=home)
    assert resumed.code == 0, resumed.err
    assert resumed.document["trials"] == whole.document["trials"]
    assert resumed.document["best"] == whole.document["best"]


@pytest.mark.slow
def test_a_killed_search_ends_what_its_scripts_forked_into_sessions_of_their_own(
    home: Path,
) -> None:
    (home / "train.py").write_text(FORKS)
    words = ("search", "space.toml", "--budget", "2", *COMMAND)
    with subprocess.Popen([*CNNTUNE, *words], cwd=home, stderr=subprocess.DEVNULL) as process:
        mark = mark_of(home / "runs" / "space" / "trial-0000")
        until = time.monotonic() + 20
        while len(marked(mark)) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert len(marked(mark)) == 2
        process.kill()
    until = time.monotonic() + 15
    while marked(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert not marked(mark)


@pytest.mark.slow
def test_a_worker_that_is_killed_takes_its_script_with_it(home: Path) -> None:
    words = ("search", "space.toml", "--budget", "2", *COMMAND, "--pause", "0.3")
    with subprocess.Popen([*CNNTUNE, *words], cwd=home, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 20
        while not leftovers(home) and time.monotonic() < until:
            time.sleep(0.02)
        (script, *_) = leftovers(home)
        stat = Path(f"/proc/{script}/stat").read_text()
        os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)  # its parent
        assert process.wait(60) == 0
    assert gone(home)
    assert len(list(home.glob("runs/space/trial-*/summary.json"))) == 2


@pytest.mark.slow
def test_a_time_limit_cuts_a_script_that_hangs(home: Path) -> None:
    (home / "train.py").write_text(HANGS)
    words = ("search", "space.toml", "--budget", "2", "--timeout", "4s", "--json", *COMMAND)
    done = run(*words, cwd=home)
    assert done.document["trials"]["running"] == 1
    assert gone(home)


@pytest.mark.slow
def test_three_trials_that_fail_alike_stop_the_search(home: Path) -> None:
    (home / "train.py").write_text(FAILS)
    done = run("search", "space.toml", "--budget", "9", *COMMAND, cwd=home)
    assert done.code == 2
    assert "ValueError: no such optimizer" in done.err
    assert "line 6, in <module>" in done.err
    assert "stopped: 3 consecutive trials failed with the same error" in done.err
    assert len(list(home.glob("runs/space/trial-*"))) == 3


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("space.toml", "--"), "--: must be followed by a command"),
        (("--", "python", "x.py"), "--: a command needs a file with its [space]"),
        (("space.toml", "--metric", "reward", *COMMAND), "--metric: must say which"),
        (("space.toml", "--deterministic", *COMMAND), "--deterministic: cannot be used"),
        (("space.toml", "--storage", "postgresql://a/b", *COMMAND), "--storage: cannot be used"),
        (("digits", "--here"), "--here: cannot be used where a search trains a recipe"),
        (("space.toml", "more.toml", *COMMAND), "more.toml: a command stands behind --"),
        (("space.toml", "--device", "tpu", *COMMAND), "--device: must be auto, cpu, cuda"),
    ],
    ids=lambda words: " ".join(words)[:30] if isinstance(words, tuple) else "",
)
def test_what_cannot_be_is_a_line_and_exit_code_2(
    home: Path, words: tuple[str, ...], error: str
) -> None:
    done = call("search", *words, cwd=home)
    assert done.code == 2
    assert done.err.startswith(error)
    assert not (home / "runs").exists()


SEEDLESS = """
import sys
lr = float(sys.argv[1])
print(f"epoch 1 val_acc {0.9 - lr}")
print(f"epoch 2 val_acc {0.95 - lr}")
"""


@pytest.mark.slow
def test_a_refinement_of_a_command_without_a_seed_says_what_its_repeats_are(home: Path) -> None:
    (home / "train.py").write_text(SEEDLESS)
    command = ("--", sys.executable, "train.py", "{train.lr}")
    assert run("search", "space.toml", "--budget", "3", *command, cwd=home).code == 0
    done = run("refine", "--budget", "2", "--seeds", "2", "--json", cwd=home)
    assert done.code == 0, done.err
    before, _, after = done.err.partition("the command has no {seed}")
    assert after
    assert "-seed-1" not in before
    assert "fresh seed" not in done.err
    found = {one["rule"]: one["evidence"] for one in done.document["findings"]}
    assert found["repeats"].startswith("each repeat equals its trial to the last bit")
    assert "winner" not in found


@pytest.mark.parametrize("verb", ["tune", "train", "refine", "report", "inspect", "init"])
def test_a_verb_that_runs_no_command_says_which_one_does(home: Path, verb: str) -> None:
    done = call(verb, *(["space.toml"] if verb == "tune" else []), *COMMAND, cwd=home)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith(f"{verb}: runs no command: ")
    assert "`cnntune " in line
    assert not (home / "runs").exists()


@pytest.mark.slow
def test_a_study_of_a_command_is_not_extended_without_it(home: Path) -> None:
    assert run("search", "space.toml", "--budget", "1", *COMMAND, cwd=home).code == 0
    done = run("search", "space.toml", "--budget", "2", cwd=home)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("runs/space: searches over a command; type it again: -- ")
    assert line.endswith("train.py --lr '{train.lr}'")
