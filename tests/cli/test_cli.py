"""The contract of the command line: documents, exit codes, what goes to stdout and what to stderr.

The whole workflow runs once in this process, and once more (slow) in processes of its own.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from commands import CNNTUNE, QUICK, Outcome, Workflow, call, run, worked_through

from cnntune.cli import app

HEAVY = ("torch", "torchvision", "pandas", "optuna", "sklearn")

# The contract, key by key; what we add to it stands apart.
COMMON = {"format", "command", "ok", "findings", "study"}
FINDING = {"rule", "severity", "where", "evidence", "advice", "measured", "expected"}
ADDED: dict[str, set[str]] = {
    "sanity": set(),
    "lr-sweep": {"lr", "range", "curves"},
    "search": {"trials", "best", "importance"},
    "refine": {"trials", "best", "importance"},
    "diagnose": {"runs", "skipped"},
    "train": set(),
    "report": set(),
}
OURS: dict[str, set[str]] = {
    "refine": {"candidates", "tie"},
    "report": {"report"},
    "train": {"run", "errors", "status", "epochs", "best_epoch", "train_loss", "train_acc"}
    | {"val_loss", "val_acc", "test_loss", "test_acc", "test_images", "waited_seconds"}
    | {"chance_acc", "chance_loss", "val_images"},
}
CURVE = {"lr", "verdict", "loss_first", "loss_last", "losses"}
VERDICTS = {"decreasing", "slow", "flat", "unstable", "diverged"}
COUNTS, OUR_COUNTS = {"complete", "pruned", "failed", "running"}, {"diverged"}
BEST = {"number", "val_acc", "val_loss", "epochs", "values"}
RUN = {"path", "format", "label", "also", "confidence", "evidence", "advice"}
RUN |= {"epochs", "best_epoch", "last_epoch", "unit"}
OUR_RUN = {"flags", "command", "columns", "notes"}
LABELS = {"overfitting", "underfitting", "still-improving", "converged", "unstable", "too-short"}


@pytest.fixture(scope="module", params=["quick", pytest.param("processes", marks=pytest.mark.slow)])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    if request.param == "quick":
        shared: Workflow = request.getfixturevalue("workflow")
        return shared
    return worked_through(tmp_path_factory.mktemp("session") / "folder", run)


every_command = pytest.mark.parametrize("command", sorted(ADDED))


@every_command
def test_a_command_without_a_failure_exits_with_0(session: Workflow, command: str) -> None:
    outcome = session.outcomes[command]
    assert outcome.code == 0, outcome.err
    assert outcome.document["ok"] is True


@every_command
def test_a_document_has_the_keys_of_the_contract(session: Workflow, command: str) -> None:
    document = session.document(command)
    assert document.keys() == COMMON | ADDED[command] | OURS.get(command, set())
    assert document["format"] == 1
    assert document["command"] == command


@every_command
def test_every_finding_has_the_keys_of_the_contract(session: Workflow, command: str) -> None:
    for finding in session.document(command)["findings"]:
        assert finding.keys() == FINDING
        assert finding["severity"] in ("ok", "info", "warn")
        assert finding["rule"]
        assert finding["evidence"]


@every_command
def test_progress_goes_to_stderr_as_plain_lines(session: Workflow, command: str) -> None:
    err = session.outcomes[command].err
    assert "\x1b" not in err
    assert "\r" not in err
    assert "Traceback" not in err
    if command != "diagnose":  # it is done before there is anything to say
        assert "next: cnntune " in err


def test_a_study_is_named_by_its_folder(session: Workflow) -> None:
    studies = {command: session.document(command)["study"] for command in ADDED}
    assert studies.pop("diagnose") is None
    assert studies.pop("refine") == "runs/digits/refine-1"
    assert set(studies.values()) == {"runs/digits"}


def test_sanity_checks_the_initial_loss_and_overfits_a_tiny_sample(session: Workflow) -> None:
    rules = {finding["rule"]: finding for finding in session.document("sanity")["findings"]}
    assert rules["initial-loss"]["expected"] == pytest.approx(2.302585)  # log 10
    assert rules["overfit-tiny"]["severity"] == "ok"


def test_lr_sweep_gives_a_rate_a_range_and_the_curves(session: Workflow) -> None:
    document = session.document("lr-sweep")
    low, high = document["range"]
    assert low < document["lr"] <= high
    assert all(curve.keys() == CURVE for curve in document["curves"])
    assert {curve["verdict"] for curve in document["curves"]} <= VERDICTS
    rates = [curve["lr"] for curve in document["curves"]]
    assert {0.1, 0.01, 0.001, 0.0001, 1e-05} <= set(rates)
    assert rates == sorted(rates, reverse=True)
    (picked,) = (curve for curve in document["curves"] if curve["lr"] == document["lr"])
    assert picked["verdict"] == "decreasing"
    assert len({curve["loss_first"] for curve in document["curves"]}) == 1
    assert len(picked["losses"]) == 100
    assert picked["losses"][0] == picked["loss_first"]


@pytest.mark.parametrize(("command", "trials"), [("search", 4), ("refine", 2)])
def test_a_search_counts_its_trials_and_names_the_best(
    session: Workflow, command: str, trials: int
) -> None:
    document = session.document(command)
    counts, best = document["trials"], document["best"]
    assert counts.keys() == COUNTS | OUR_COUNTS
    assert (counts["complete"], counts["failed"], counts["running"]) == (trials, 0, 0)
    assert best.keys() == BEST
    assert 0 <= best["val_acc"] <= 1
    study = session.folder / document["study"]
    accs = {
        number: json.loads((study / f"trial-{number:04d}" / "summary.json").read_text())["val_acc"]
        for number in range(trials)
    }
    assert best["val_acc"] == max(accs.values()) == accs[best["number"]]
    assert set(best["values"]) >= {"train.lr", "train.weight_decay"}


def test_search_takes_over_the_range_of_the_sweep_and_says_so(session: Workflow) -> None:
    low, high = session.document("lr-sweep")["range"]
    said = [f for f in session.document("search")["findings"] if f["rule"] == "lr-range"]
    assert len(said) == 1
    for number in range(4):
        config = session.folder / f"runs/digits/trial-{number:04d}/config.json"
        assert low <= json.loads(config.read_text())["train"]["lr"] <= high


def test_refine_trains_its_best_over_the_seeds_asked_for(session: Workflow) -> None:
    document = session.document("refine")
    assert len(document["candidates"]) == 3  # the best of the search and the refinement
    assert all(len(candidate["val_accs"]) == 2 for candidate in document["candidates"])
    assert all(candidate["asked"] == 2 for candidate in document["candidates"])
    means = [candidate["mean"] for candidate in document["candidates"]]
    assert means == sorted(means, reverse=True)
    assert document["tie"][0] == document["candidates"][0]["number"]
    assert document["best"]["epochs"] == 4


def test_diagnose_judges_every_run_of_search_and_refinement(session: Workflow) -> None:
    document = session.document("diagnose")
    assert len(document["runs"]) == 4 + 2 + 6  # trials, refined trials, two seeds of the best
    assert document["skipped"] == []
    for entry in document["runs"]:
        assert entry.keys() == RUN | OUR_RUN
        assert entry["label"] in LABELS
        assert set(entry["also"]) <= LABELS
        assert 0 <= entry["confidence"] <= 1
        assert entry["epochs"] == 4
        assert (session.folder / entry["path"] / "metrics.csv").is_file()


def test_every_command_leaves_its_result_in_the_study(session: Workflow) -> None:
    study = session.folder / "runs/digits"
    for step in ("sanity", "lr-sweep", "search", "refine-1/refine"):
        stored = json.loads((study / f"{step}.json").read_text())
        assert stored.items() >= session.document(step.rpartition("/")[2]).items()
    about = json.loads((study / "study.json").read_text())
    assert {"commands", "versions", "device"} <= about.keys()
    assert "--budget" in about["commands"][-1]["argv"] or len(about["commands"]) > 1
    assert (study / "recipe.toml").is_file()
    assert (study / "study.db").is_file()


def test_the_final_test_is_measured_once_and_recorded(session: Workflow, tmp_path: Path) -> None:
    first = session.document("train")
    shutil.copytree(session.folder, tmp_path, dirs_exist_ok=True)
    config = "runs/digits/trial-0000/config.json"
    record = tmp_path / "runs/digits/test.json"
    looks = json.loads(record.read_text())["looks"]
    assert [look["test_acc"] for look in looks] == [first["test_acc"]]
    assert first["test_images"] == 30  # a fifth of 150

    second = call("train", config, "--json", cwd=tmp_path).document
    assert "test_acc" not in second
    assert [finding["rule"] for finding in second["findings"]] == ["test"]
    assert json.loads(record.read_text())["looks"] == looks

    again = call("train", config, "--test-again", "--json", cwd=tmp_path).document
    assert again["test_acc"] == first["test_acc"]  # the same weights, bit for bit
    assert [finding["severity"] for finding in again["findings"]] == ["warn"]
    assert len(json.loads(record.read_text())["looks"]) == 2


OWN_MODEL = """
from torch import nn


def build(*, num_classes, in_shape):
    channels, height, width = in_shape
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * width, num_classes), nn.Softmax(1)
    )
"""


@pytest.mark.slow
def test_a_model_that_returns_probabilities_fails_sanity(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_MODEL)
    (tmp_path / "mine.toml").write_text('data.size = 300\nmodel.name = "mine:build"\n')
    outcome = call("sanity", "mine.toml", "--json", cwd=tmp_path)
    assert outcome.code == 1
    assert outcome.document["ok"] is False
    failing = [f["rule"] for f in outcome.document["findings"] if f["severity"] == "fail"]
    assert "overfit-tiny" in failing
    assert "next:" not in outcome.err  # not on to the sweep
    assert "FAIL" in call("sanity", "mine.toml", cwd=tmp_path).out


def test_a_run_that_diverges_fails_and_keeps_no_test_result(tmp_path: Path) -> None:
    outcome = call("train", *QUICK, "--set", "train.lr=1e6", "--json", cwd=tmp_path)
    assert outcome.code == 1
    document = outcome.document
    assert document["status"] == "diverged"
    assert document["best_epoch"] is None
    failed = [f["rule"] for f in document["findings"] if f["severity"] != "info"]
    assert failed == ["diverged"]
    assert not (tmp_path / "runs/digits/test.json").exists()


WRONG = """
[train]
learning_rate = 0.1
optimizer = "sdg"
"""
# What is typed, and for each line of the answer the words that it has to hold.
PROBLEMS: dict[str, tuple[list[str], list[list[str]]]] = {
    "unknown recipe": (["sanity", "digitz"], [["digitz", "did you mean 'digits'"]]),
    "missing recipe": (["sanity", "no.toml"], [["no.toml", "no such file"]]),
    "broken TOML": (["sanity", "broken.toml"], [["broken.toml", "TOML", "line 1"]]),
    "two wrong keys": (
        ["train", "wrong.toml"],
        [
            ["wrong.toml: train.optimizer", "'sdg'", "did you mean 'sgd'"],
            ["wrong.toml: train.learning_rate", "allowed", "lr"],
        ],
    ),
    "wrong argument": (
        ["search", "--set", "model.widht=8"],
        [["--set: model.widht", "did you mean 'width'"]],
    ),
    "no folder of images": (
        ["sanity", "--set", "data.name=folder", "--set", "data.path=nowhere"],
        [["nowhere"]],
    ),
    "absent device": (["sanity", "--device", "cuda:99"], [["--device", "cuda:99"]]),
    "unknown device": (["train", "--device", "gpu"], [["--device", "'gpu'", "cuda"]]),
    "unknown study": (["refine", "nothing"], [["nothing", "no study"]]),
    "no study at all": (["refine"], [["runs", "cnntune search"]]),
    "study outside": (["search", "--study", "../up"], [["--study", "'../up'"]]),
    "missing path": (["diagnose", "nowhere"], [["nowhere", "no such file"]]),
    "two missing paths": (["diagnose", "here", "there"], [["here"], ["there"]]),
    "folder without runs": (["diagnose", "empty"], [["empty", "no training log"]]),
    "no workers": (["search", "--workers", "0"], [["--workers", "auto", "'0'"]]),
    "wrong workers": (["search", "--workers", "many"], [["--workers", "auto", "'many'"]]),
    "set without a value": (["sanity", "--set", "train.lr"], [["--set", "'train.lr'"]]),
    "set to no value": (["sanity", "--set", "train.lr=1 2"], [["--set", "train.lr", "'1 2'"]]),
    "set out of range": (
        ["lr-sweep", "--set", "train.lr=-0.1"],
        [["--set: train.lr: must be > 0 (got -0.1)"]],
    ),
}
every_problem = pytest.mark.parametrize("problem", PROBLEMS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "broken.toml").write_text("[train\nlr = 1\n")
    (tmp_path / "wrong.toml").write_text(WRONG)
    (tmp_path / "empty").mkdir()
    return tmp_path


@every_problem
def test_a_problem_is_one_clear_line_and_exit_code_2(folder: Path, problem: str) -> None:
    words, expected = PROBLEMS[problem]
    outcome = call(*words, *([] if words[0] == "diagnose" else ["--quiet"]), cwd=folder)
    assert outcome.code == 2
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert len(lines) == len(expected), outcome.err
    for line, parts in zip(lines, expected, strict=True):
        assert [part for part in parts if part not in line] == [], line


@every_problem
def test_a_problem_is_a_document_too(folder: Path, problem: str) -> None:
    words, expected = PROBLEMS[problem]
    document = call(*words, "--json", cwd=folder).document
    always = ADDED["diagnose"] if words[0] == "diagnose" else set()
    assert document.keys() == COMMON | {"errors"} | always
    assert (document["ok"], document["command"]) == (False, words[0])
    assert len(document["errors"]) == len(expected)


@every_problem
def test_a_problem_leaves_nothing_behind(folder: Path, problem: str) -> None:
    call(*PROBLEMS[problem][0], cwd=folder)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [["search", "--budget", "0"], ["sanity", "--nope"], ["nope"], ["diagnose"], ["refine", "-x"]],
)
def test_wrong_usage_is_exit_code_2(tmp_path: Path, words: list[str]) -> None:
    outcome = call(*words, cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


def test_a_bug_is_a_traceback_and_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(paths: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("cnntune.diagnosis.judge.judge_paths", broken)
    outcome = call("diagnose", ".", cwd=tmp_path)
    assert outcome.code == 3
    assert "Traceback" in outcome.err
    assert "this is a bug in cnntune" in outcome.err
    assert outcome.out == ""


METRICS = """epoch,lr,train_loss,train_acc,val_loss,val_acc,grad_norm,seconds
1,0.1,2.0,0.3,2.1,0.3,1.0,1.0
2,0.1,1.5,0.5,1.6,0.5,1.0,1.0
3,0.1,1.2,0.6,1.4,0.6,1.0,1.0
4,0.1,1.0,0.7,1.2,0.6,1.0,1.0
"""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "metrics.csv").write_text(METRICS)
        (tmp_path / "runs" / name / "config.json").write_text('{"train": {"epochs": 4}}')
        (tmp_path / "runs" / name / "summary.json").write_text('{"status": "complete"}')
    return tmp_path


def heavy_modules_after(*commands: list[str], cwd: Path) -> list[str]:
    """Which heavy libraries a process has loaded after these commands, all of which end well."""
    code = f"""
import sys
from cnntune.cli import main
for words in {commands!r}:
    sys.argv = ["cnntune", *words]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, (words, end.code)
print("loaded", *sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()[-1].split()[1:]


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    helps = [[command, "--help"] for command in ADDED]
    assert heavy_modules_after(["--help"], ["--version"], *helps, cwd=tmp_path) == []


def test_diagnose_loads_nothing_heavy(runs: Path) -> None:
    commands = ["diagnose", "runs"], ["diagnose", "runs/a", "--json"]
    assert heavy_modules_after(*commands, cwd=runs) == []


def test_every_command_and_option_has_help() -> None:
    group = typer.main.get_command(app)
    commands = dict(getattr(group, "commands", {}))
    assert commands.keys() >= ADDED.keys()
    for name, command in {"cnntune": group, **commands}.items():
        assert command.help, name
        without = [p.name for p in command.params if not getattr(p, "help", None)]
        allowed = {"--help"} | ({"json", "quiet"} if not commands else set())
        assert set(map(str, without)) <= allowed, f"{name}: no help for {without}"


@every_command
def test_help_names_the_options_of_the_contract(command: str, tmp_path: Path) -> None:
    text = call(command, "--help", cwd=tmp_path).out
    common = {"--set", "--device", "--seed", "--runs"}
    fewer = {"refine": {"--device", "--runs"}, "report": {"--runs"}, "diagnose": set[str]()}
    wanted = fewer.get(command, common)
    wanted |= {"search": {"--budget", "--epochs", "--workers", "--study"}}.get(command, set())
    assert {"--json", "--quiet"} | wanted <= set(re.findall(r"--[a-z-]+", text))


def test_results_go_to_stdout_and_progress_to_stderr(tmp_path: Path) -> None:
    words = ("train", *QUICK, "--set", "train.epochs=2")
    outcome = call(*words, cwd=tmp_path)
    assert "complete after 2 epochs" in outcome.out
    assert "test acc" in outcome.out
    assert "epoch 1/2" not in outcome.out
    assert "epoch 1/2" in outcome.err
    assert "next: cnntune diagnose runs/digits/train-0001" in outcome.err
    quiet = call(*words, "--quiet", cwd=tmp_path)
    assert quiet.err == ""
    assert "complete after 2 epochs" in quiet.out


def test_seed_runs_and_study_say_what_is_trained_and_where(tmp_path: Path) -> None:
    words = ("train", *QUICK, "--set", "train.epochs=1", "--seed", "5")
    document = call(
        *words, "--runs", "elsewhere", "--study", "mine", "--json", cwd=tmp_path
    ).document
    assert document["run"] == "elsewhere/mine/train-0001"
    config = json.loads((tmp_path / document["run"] / "config.json").read_text())
    assert config["seed"] == 5
    assert config["data"]["size"] == 150
    assert "space" not in config


def test_the_recipe_in_the_folder_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "cnntune.toml").write_text(
        'name = "mine"\n[data]\nsize = 200\n[model]\nwidth = 4\n[train]\nepochs = 1\n'
    )
    assert call("train", "--json", cwd=tmp_path).document["run"] == "runs/mine/train-0001"


COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])[;m]")  # bold and italic are none


def test_no_color_is_honoured_and_meaning_needs_none(runs: Path) -> None:
    coloured = run("diagnose", "runs", cwd=runs, FORCE_COLOR="1", TERM="xterm-256color")
    plain = run("diagnose", "runs", cwd=runs, FORCE_COLOR="1", TERM="xterm-256color", NO_COLOR="1")
    assert COLOUR.search(coloured.out)
    assert not COLOUR.search(plain.out)
    assert "still-improving" in plain.out


def test_a_pipe_gets_plain_text(runs: Path) -> None:
    assert "\x1b" not in run("diagnose", "runs", cwd=runs).out


@pytest.mark.parametrize(
    "words",
    [["diagnose", "runs"], ["diagnose", "runs", "--json"], ["--help"], ["diagnose", "--help"]],
    ids=" ".join,
)
def test_a_reader_that_goes_away_leaves_no_traceback(runs: Path, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `head -1` does, only sooner
    try:
        done = subprocess.run(
            [*CNNTUNE, *words], cwd=runs, stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert done.stderr.decode() == ""
    assert done.returncode == 141  # 128 and SIGPIPE, as of `yes | head -1`


@pytest.mark.parametrize(("path", "code"), [("runs", 141), ("nowhere", 2)])
def test_nobody_reads_stdout_or_stderr(runs: Path, path: str, code: int) -> None:
    words = " ".join(f"'{word}'" for word in (*CNNTUNE, "diagnose", path, "--json"))
    for ending in ("2>&1 | true", "2>&- | true"):
        shell = f"set -o pipefail; (sleep 0.3; {words}) {ending}"
        done = subprocess.run(["bash", "-c", shell], cwd=runs, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_closed_streams_change_no_exit_code(runs: Path) -> None:
    words = " ".join(f"'{word}'" for word in (*CNNTUNE, "diagnose"))
    for path, code in (("runs", 0), ("nowhere", 2)):
        shell = f"{words} {path} >&- 2>&-"
        assert subprocess.run(["bash", "-c", shell], cwd=runs, check=False).returncode == code


def test_a_pipe_is_a_log(runs: Path) -> None:
    log = "epoch,train_loss,val_loss\n1,2.2,2.2\n2,1.7,1.8\n3,1.3,1.4\n4,1.0,1.1\n"
    (runs / "log.csv").write_text(log)
    words = " ".join(f"'{word}'" for word in (*CNNTUNE, "diagnose", "--json"))
    shell = f"{words} <(cat log.csv)"
    done = subprocess.run(["bash", "-c", shell], cwd=runs, capture_output=True, check=True)
    (read,) = json.loads(done.stdout)["runs"]
    assert (read["format"], read["epochs"]) == ("csv", 4)


TALKING = """
from torch import nn

print("imported")


class Talking(nn.Sequential):
    def forward(self, x):
        print("forward", tuple(x.shape))
        return super().forward(x)


def build(*, num_classes, in_shape):
    return Talking(nn.Flatten(), nn.Linear(in_shape[0] * in_shape[1] * in_shape[2], num_classes))
"""


@pytest.mark.parametrize(
    ("words", "go"),
    [
        (("inspect",), call),
        pytest.param(("lr-sweep",), run, marks=pytest.mark.slow),
        pytest.param(("search", "--budget", "1", "--epochs", "1"), run, marks=pytest.mark.slow),
    ],
)
def test_what_own_code_prints_is_no_result(
    words: tuple[str, ...], go: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "talking.py").write_text(TALKING)
    own = ("--set", "model.name=talking:build", "--set", "data.size=120")
    (tmp_path / "own.toml").write_text('[data]\nname = "digits"\n')
    outcome = go(*words, "own.toml", *own, "--json", cwd=tmp_path)
    assert outcome.document["command"] == words[0]
    assert "imported" in outcome.err
    assert "forward (" in outcome.err


INTERRUPTED_IMPORT = """
import sys
class Interrupted:
    def find_spec(self, name, *more):
        if name == "cnntune.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from cnntune.__main__ import main
main()
"""


def test_ctrl_c_while_modules_are_imported_is_no_traceback(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


def test_a_library_that_breaks_when_its_import_is_interrupted_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> int:
        with contextlib.suppress(KeyboardInterrupt):  # as torch does around some imports
            os.kill(os.getpid(), signal.SIGINT)
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr("cnntune.cli._run", interrupted)
    ended = call("inspect", cwd=tmp_path)
    assert (ended.code, ended.err) == (130, "interrupted\n")
