"""A study's file that is missing, damaged or newer: a command does without, or says so in a line.

`SAID` is the table: for each file, in which state which commands refuse to run, with one line that
names the file. All others do without it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import Outcome, call

from cnntune.config.space import Range
from cnntune.runs.run import Epoch, Run
from cnntune.runs.study import Study
from cnntune.runs.summary import Summary
from cnntune.steps.winner import lost_rounds
from cnntune.study.importance import importance
from cnntune.study.trial import Trial

SMALL = """
name = "small"
[data]
name = "digits"
size = 300
test_fraction = 0.2
[model]
width = 8
[train]
batch_size = 16
optimizer = "adam"
epochs = 2
[search]
epochs = 3
[space]
train.lr = { log = [1e-4, 1e-1] }
"""
STUDY = Path("runs/small")
COMMANDS = {
    "search": "search small.toml --budget 3",
    "refine": "refine small --budget 1 --epochs 2 --seeds 1 --workers 1",
    "tune": "tune small.toml --budget 13 --workers 1",
    "report": "report small",
    "diagnose": "diagnose runs",
    "train": f"train {STUDY}/trial-0000/config.json --set train.epochs=1",
    "sanity": "sanity small.toml",
    "lr-sweep": "lr-sweep small.toml",
}
# These take long: those of the files that they open and do without are spoilt all at once.
LONG = ("sanity", "lr-sweep", "tune")
OF_THE_STUDY = ("study.json", "recipe.toml", "study.db", "sanity.json", "lr-sweep.json")
OPENED = {
    "sanity": OF_THE_STUDY,
    "lr-sweep": OF_THE_STUDY,
    "tune": (
        *OF_THE_STUDY,
        *("server.json", "tune.json", "trial-0000", "trial-0000/summary.json"),
        *("refine-1", "refine-1/refine.json", "refine-1/plan.json", "refine-1/study.db"),
        *("refine-1/trial-0000/metrics.csv", "refine-1/trial-0000/summary.json"),
    ),
}


def damaged(commands: str) -> dict[str, str]:
    """The row of a JSON document that these commands need, and that may be missing."""
    return dict.fromkeys(("empty", "torn", "newer"), commands)


def database(commands: str) -> dict[str, str]:
    """The row of a `study.db`; a report without one shows the folders."""
    return {"missing": commands, "empty": commands, "torn": f"{commands} report"}


# file -> state -> the commands that say so
SAID = {
    "study.json": {"missing": "report"}
    | damaged("search refine tune report train sanity lr-sweep"),
    "recipe.toml": {},
    "study.db": database("search refine tune"),
    "sanity.json": damaged("report"),
    "lr-sweep.json": damaged("report tune"),
    "search.json": {},
    "tune.json": damaged("refine tune report"),
    "test.json": damaged("report train"),
    "server.json": damaged("search tune"),
    "trials.csv": {},
    "trial-0000": {"missing": "train"},
    "trial-0000/config.json": dict.fromkeys(("missing", "empty", "torn", "newer"), "train"),
    "trial-0000/metrics.csv": {},
    "trial-0000/summary.json": {"newer": "search refine tune report"},
    "refine-1": {},
    "refine-1/refine.json": damaged("refine tune"),
    "refine-1/plan.json": damaged("tune report"),
    # `tune` goes on without the round, and says that it is gone.
    "refine-1/study.db": {"missing": "refine", "empty": "refine", "torn": "refine tune report"},
    "refine-1/trial-0000": {},
    "refine-1/trial-0000/config.json": {},
    "refine-1/trial-0000/metrics.csv": {},
    "refine-1/trial-0000/summary.json": {"newer": "refine tune report"},
    "train-0001/best.pt": {},
    "train-0001/summary.json": {"newer": "report train"},
}
STATES = ("missing", "empty", "torn", "newer")


def possible(file: str, state: str) -> bool:
    """Whether a study has the file in that state: folders and a server are there or not."""
    if state == "missing":
        return file != "server.json"
    return "." in file and (state != "newer" or file.endswith(".json"))


def refused(file: str, state: str, command: str) -> bool:
    return command in SAID[file].get(state, "").split()


CASES = [
    (file, state, command)
    for file in SAID
    for state in STATES
    for command in COMMANDS
    if possible(file, state)
    if file in OPENED.get(command, (file,))
    if command not in LONG or refused(file, state, command) or "." not in file
]
QUICK = (
    ("study.json", "torn", "search"),
    ("study.json", "missing", "report"),
    ("study.db", "torn", "search"),
    ("study.db", "missing", "search"),
    ("study.db", "empty", "refine"),
    ("sanity.json", "torn", "report"),
    ("test.json", "torn", "train"),
    ("server.json", "empty", "search"),
    ("trial-0000", "missing", "train"),
    ("trial-0000/config.json", "torn", "train"),
    ("trial-0000/config.json", "newer", "train"),
    ("trial-0000/config.json", "empty", "diagnose"),
    ("trial-0000/metrics.csv", "missing", "diagnose"),
    ("trial-0000/summary.json", "torn", "diagnose"),
    ("refine-1/trial-0000/metrics.csv", "missing", "refine"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with all that the commands leave, some of it written here: sweeping takes long."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.toml").write_text(SMALL)
    for command in (
        COMMANDS["search"],
        "refine small --budget 2 --epochs 2 --seeds 2",
        "train small.toml",
    ):
        outcome = call(*command.split(), "--quiet", cwd=folder)
        assert outcome.code in (0, 1), outcome.err
    curve = {"lr": 0.01, "verdict": "decreasing", "loss_first": 2.3, "loss_last": 1.0}
    sweep = {"lr": None, "range": None, "curves": [curve | {"losses": [2.3, 1.0]}]}
    added: dict[str, dict[str, Any]] = {"sanity": {}, "tune": {}, "lr-sweep": sweep}
    for step, more in added.items():
        document = {"format": 1, "command": step, "ok": True, "findings": [], **more}
        (folder / STUDY / f"{step}.json").write_text(json.dumps(document))
    accs = [trial["val_acc"] for trial in summaries(folder)]
    assert len(set(accs)) == 3, "which is the best must not hang on the losses"
    return folder


def summaries(folder: Path) -> list[dict[str, Any]]:
    """Those of the search's trials."""
    paths = sorted((folder / STUDY).glob("trial-????/summary.json"))
    return [json.loads(path.read_text()) for path in paths]


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def spoil(path: Path, state: str) -> None:
    """Bring a file into a state; a folder can only be missing."""
    if path.name == "server.json":
        path.write_text('{"format": 1, "server": "db.example.org"}')
    if state == "missing":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif state == "newer":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if state == "torn" else b"")


def outcome_of(command: str, folder: Path) -> Outcome:
    return call(*COMMANDS[command].split(), "--json", "--quiet", cwd=folder)


@pytest.mark.parametrize(
    ("file", "state", "command"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow, id="-".join(case))
        for case in CASES
    ],
)
def test_a_command_does_without_a_file_or_says_in_a_line_what_is_wrong_with_it(
    folder: Path, file: str, state: str, command: str
) -> None:
    spoil(folder / STUDY / file, state)
    outcome = outcome_of(command, folder)
    assert "Traceback" not in outcome.err
    if refused(file, state, command):
        assert outcome.code == 2, outcome.err
        (line,) = outcome.document["errors"]
        assert Path(file).name in line
        assert ("newer cnntune" in line) == (state == "newer")
    else:
        assert outcome.code in (0, 1), outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("command", LONG)
def test_a_long_command_does_without_all_files_at_once_that_it_need_not_have(
    folder: Path, command: str, state: str
) -> None:
    for file in OPENED[command]:
        if "." in file and possible(file, state) and not refused(file, state, command):
            spoil(folder / STUDY / file, state)
    outcome = outcome_of(command, folder)
    assert "Traceback" not in outcome.err
    assert outcome.code in (0, 1), outcome.err


# What the record knows of a trial whose files are gone


def best_trial(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / STUDY / "search.json").read_text())
    best: dict[str, Any] = document["best"]
    return best


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("", "missing"),
        ("summary.json", "missing"),
        ("summary.json", "torn"),
        ("metrics.csv", "missing"),
        ("metrics.csv", "torn"),
    ],
)
def test_the_best_trial_stays_the_best_when_its_files_are_gone(
    folder: Path, name: str, state: str
) -> None:
    best = best_trial(folder)
    spoil(folder / STUDY / f"trial-{best['number']:04d}" / name, state)
    document = outcome_of("search", folder).document
    if name:
        assert document["best"] == best
    else:  # study.db knows no losses
        assert document["best"] == best | {"val_loss": None}
    (finding,) = [one for one in document["findings"] if one["rule"] == "missing-files"]
    assert finding["severity"] == "warn"
    assert f"the {name or 'folder'} of trial {best['number']} is missing" in finding["evidence"]
    assert document["trials"]["complete"] == 3


def test_a_torn_curve_and_no_summary_leave_what_optuna_was_told(folder: Path) -> None:
    best = best_trial(folder)
    trial = folder / STUDY / f"trial-{best['number']:04d}"
    spoil(trial / "summary.json", "missing")
    lines = (trial / "metrics.csv").read_text().splitlines(keepends=True)
    (trial / "metrics.csv").write_text(lines[0] + lines[1].replace(",", ",0", 1))
    found = outcome_of("search", folder).document["best"]
    assert (found["number"], found["val_acc"]) == (best["number"], best["val_acc"])


def test_diagnose_says_of_which_run_the_curve_is_gone_or_cut(folder: Path) -> None:
    spoil(folder / STUDY / "trial-0000/metrics.csv", "missing")
    cut = folder / STUDY / "trial-0001/metrics.csv"
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:2]))
    outcome = call("diagnose", "runs", "--json", cwd=folder)
    (skipped,) = outcome.document["skipped"]
    assert skipped["path"] == "runs/small/trial-0000"
    assert skipped["reason"].startswith("its metrics.csv is missing")
    assert "trial-0001: has only 1 of the run's 3 epochs" in outcome.err


def test_a_trial_without_its_curve_is_left_out_of_the_importance(tmp_path: Path) -> None:
    trials = []
    for number in range(22):
        acc = 0.2 + 0.03 * number
        run = Run(tmp_path / f"trial-{number:04d}")
        run.begin({})
        run.log(Epoch(1, 0.1, 1.0, acc, 1.0, acc, 1.0, 1.0))
        summary = Summary("complete", 1, val_acc=acc, val_loss=1.0)
        trials.append(Trial(number, {"train.lr": 1e-3 * 1.1**number}, run, summary))
    space = {"train.lr": Range(1e-4, 1e-1, log=True)}
    trials[3].run.metrics.unlink()
    shutil.rmtree(trials[4].run.path)
    found = importance(trials, space)
    assert found is not None
    assert (found.trials, found.epochs) == (20, 1)
    trials[5].run.metrics.write_text("")
    assert importance(trials, space) is None  # nineteen are too few


# Names that no file has


def test_a_study_without_its_record_is_told_from_one_that_does_not_exist(folder: Path) -> None:
    (folder / STUDY / "study.db").unlink()
    lost = call("refine", "small", cwd=folder)
    assert lost.err.startswith("runs/small: holds no study.db")
    other = call("refine", "nothing", cwd=folder)
    assert other.err.startswith("nothing: no study of that name in runs")


def test_tune_says_that_a_round_without_its_record_counts_for_nothing(folder: Path) -> None:
    spoil(folder / STUDY / "refine-1/study.db", "missing")
    (finding,) = lost_rounds(Study(folder / STUDY))
    assert finding.rule == "missing-files"
    assert finding.evidence.startswith("refine-1 of this study is missing")
