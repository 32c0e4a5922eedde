"""The kill campaign finds what it looks for: each kind of fault, made by hand in a study."""

import json
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from commands import call

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "durability"
RECIPE = """
name = "small"
[data]
name = "digits"
size = 60
[model]
width = 2
[search]
epochs = 2
[space]
train.lr = { log = [1e-3, 1e-1] }
"""


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("killed_study")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    (folder / "small.toml").write_text(RECIPE)
    assert call("search", "small.toml", "--budget", "3", cwd=folder).code == 0
    return folder / "runs/small"


@pytest.fixture
def study(searched: Path, tmp_path: Path) -> Path:
    shutil.copytree(searched, tmp_path / "small")
    return tmp_path / "small"


def test_a_study_without_a_fault_has_none(killed: ModuleType, study: Path) -> None:
    look = killed.look(study)
    assert sorted(look.runs) == ["trial-0000", "trial-0001", "trial-0002"]
    assert list(killed.faults_in(look, ended=True)) == []
    assert list(killed.faults_between(look, look)) == []
    assert list(killed.differences(look, look)) == []


def test_looking_changes_nothing(killed: ModuleType, study: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    killed.look(study)
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before


def test_a_folder_that_is_gone_is_lost(killed: ModuleType, study: Path) -> None:
    before = killed.look(study)
    shutil.rmtree(study / "trial-0001")
    after = killed.look(study)
    assert list(killed.faults_between(before, after)) == ["lost: trial-0001: its folder is gone"]
    line = "lost: trial-0001: ended in the record and has no summary.json"
    assert list(killed.faults_in(after, ended=True)) == [line]
    assert list(killed.differences(after, before)) == ["lost: trial-0001"]


@pytest.mark.parametrize("file", ["config.json", "metrics.csv", "summary.json"])
def test_a_finished_run_that_is_written_again_is_changed(
    killed: ModuleType, study: Path, file: str
) -> None:
    before = killed.look(study)
    path = study / "trial-0002" / file
    path.write_text(re.sub(r"(?<=[0-9])([0-8])(?=[0-9])", "9", path.read_text()))
    found = list(killed.faults_between(before, killed.look(study)))
    assert found == [f"changed: trial-0002: {file} of a finished run was written again"]


def test_epochs_of_an_unfinished_run_may_follow_but_not_vanish(
    killed: ModuleType, study: Path
) -> None:
    (study / "trial-0002/summary.json").unlink()
    whole = killed.look(study)
    curve = study / "trial-0002/metrics.csv"
    header, first, _ = curve.read_text().splitlines()
    curve.write_text(f"{header}\n{first}\n2,0.05,1.")  # a torn line does not count
    torn = killed.look(study)
    assert list(killed.faults_between(torn, whole)) == []
    line = "lost: trial-0002: 2 epochs became 1 other ones"
    assert list(killed.faults_between(whole, torn)) == [line]
    assert "unfinished: trial-0002: has no summary.json" in killed.faults_in(whole, ended=True)


def test_an_epoch_that_is_logged_twice_is_doubled(killed: ModuleType, study: Path) -> None:
    curve = study / "trial-0000/metrics.csv"
    lines = curve.read_text().splitlines()
    curve.write_text("\n".join([*lines, lines[-1], ""]))
    found = list(killed.faults_in(killed.look(study), ended=True))
    assert "doubled: trial-0000: the epochs of metrics.csv are 1, 2, 2" in found


def test_a_folder_that_no_record_knows_is_told(killed: ModuleType, study: Path) -> None:
    shutil.copytree(study / "trial-0000", study / "trial-0003")
    found = list(killed.faults_in(killed.look(study), ended=True))
    assert found == ["no record: trial-0003: trial 3 is not in the record"]


def test_values_that_are_not_those_of_the_slot_are_told(killed: ModuleType, study: Path) -> None:
    path = study / "trial-0000/config.json"
    config = json.loads(path.read_text())
    config["train"]["lr"] = 0.5
    path.write_text(json.dumps(config))
    found = list(killed.faults_in(killed.look(study), ended=True))
    assert found == ["changed: trial-0000: config.json and record differ in train.lr"]


def test_a_document_is_compared_but_for_its_seconds(killed: ModuleType) -> None:
    one = killed.Look({}, {}, {"tune.json": {"winner": "a", "seconds": 1.0, "findings": [1]}})
    same = killed.Look({}, {}, {"tune.json": {"winner": "a", "seconds": 2.0, "findings": [1]}})
    other = killed.Look({}, {}, {"tune.json": {"winner": "b", "findings": [1]}})
    fewer = killed.Look({}, {}, {"tune.json": {"winner": "a", "findings": []}})
    assert list(killed.differences(same, one)) == []
    assert list(killed.differences(other, one)) == ["unlike: tune.json: winner is 'b' and not 'a'"]
    line = "unlike: tune.json: findings is 0 entries and not 1 entries"
    assert list(killed.differences(fewer, one)) == [line]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["refine", "search-script"])
def test_a_campaign_kills_and_says_where(command: str) -> None:
    words = ("kill_campaign.py", "--command", command, "--kills", "2")
    done = subprocess.run(
        [sys.executable, *words], cwd=BENCHMARKS, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kills = re.findall(rf"^ +{command} .* (\d+)$", done.stdout, re.MULTILINE)
    assert sum(map(int, kills)) == 2
    assert "lost: 0" in done.stdout
