"""`cnntune train`: an interrupted run goes on, and its curves are readable elsewhere too."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Outcome, call, rows

from cnntune.cli.screen import Screen
from cnntune.runs.files import locked
from cnntune.runs.run import Epoch, Run
from cnntune.runs.study import TEST_LOCK, Study
from cnntune.training import loop as train_room

SMALL = """
name = "small"
[data]
name = "digits"
size = 120
test_fraction = 0.2
[model]
width = 4
dropout = 0.2
[train]
batch_size = 32
schedule = "cosine"
epochs = 5
lr = 0.2
"""


def train(folder: Path, *words: str) -> Outcome:
    (folder / "small.toml").write_text(SMALL)
    return call("train", "small.toml", "--json", *words, cwd=folder)


def interrupt(folder: Path, patch: pytest.MonkeyPatch, epoch: int, *words: str) -> Outcome:
    """Train until Ctrl-C comes in the moment before the row of this epoch is logged."""
    log = Run.log

    def log_or_stop(run: Run, row: Epoch) -> None:
        if row.epoch == epoch:
            raise KeyboardInterrupt
        log(run, row)

    with patch.context() as during:
        during.setattr(Run, "log", log_or_stop)
        return train(folder, *words)


def weights(run: Path) -> dict[str, torch.Tensor]:
    held: dict[str, torch.Tensor] = torch.load(run / "best.pt", weights_only=True)["weights"]
    return held


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder / str(train(folder).document["run"])


@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path, epoch: int
) -> None:
    outcome = interrupt(tmp_path, monkeypatch, epoch)
    assert outcome.code == 130
    assert outcome.out == ""
    assert outcome.err.splitlines()[-1] == "interrupted; run the same command again to resume"
    stopped = tmp_path / "runs/small/train-0001"
    assert len(rows(stopped)) == epoch - 1
    again = train(tmp_path)
    assert again.code == 0, again.err
    assert ("was interrupted after epoch" in again.err) == (epoch > 1)
    assert tmp_path / str(again.document["run"]) == stopped
    assert rows(stopped) == rows(undisturbed)
    assert (
        again.document["test_acc"]
        == json.loads((undisturbed / "summary.json").read_text())["test_acc"]
    )
    for name, tensor in weights(undisturbed).items():
        torch.testing.assert_close(weights(stopped)[name], tensor, rtol=0, atol=0)
    assert not list(stopped.glob("checkpoint*"))


def test_epochs_that_are_done_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path, monkeypatch, 4)
    before = (tmp_path / "runs/small/train-0001/metrics.csv").read_text().splitlines()
    trained: list[int] = []
    train_epoch = train_room._train_epoch

    def count(learner: Any, recipe: Any, data: Any, number: int) -> float:
        trained.append(number)
        return train_epoch(learner, recipe, data, number)

    monkeypatch.setattr(train_room, "_train_epoch", count)
    train(tmp_path)
    assert trained == [5]  # the checkpoint of the fourth was written before its row
    after = (tmp_path / "runs/small/train-0001/metrics.csv").read_text().splitlines()
    assert after[:4] == before
    assert len(after) == 6


def test_a_finished_run_and_a_run_of_another_recipe_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path, monkeypatch, 3)
    other = train(tmp_path, "--set", "train.lr=0.1").document
    assert other["run"] == "runs/small/train-0002"
    assert train(tmp_path).document["run"] == "runs/small/train-0001"
    assert train(tmp_path).document["run"] == "runs/small/train-0003"


def test_a_run_that_another_process_trains_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path, monkeypatch, 3)
    with locked(tmp_path / "runs/small/train-0001") as ours:
        assert ours
        assert train(tmp_path).document["run"] == "runs/small/train-0002"
    assert len(rows(tmp_path / "runs/small/train-0001")) == 2


def test_a_run_killed_after_its_look_at_the_test_part_needs_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Run.finish

    def stop(run: Run, summary: Any) -> None:
        if "test_acc" in summary:
            raise KeyboardInterrupt
        finish(run, summary)

    with monkeypatch.context() as during:
        during.setattr(Run, "finish", stop)
        assert train(tmp_path).code == 130
    (look,) = json.loads((tmp_path / "runs/small/test.json").read_text())["looks"]
    again = train(tmp_path).document
    assert again["run"] == "runs/small/train-0001"
    assert again["test_acc"] == look["test_acc"]
    assert again["findings"] == []
    assert json.loads((tmp_path / "runs/small/test.json").read_text())["looks"] == [look]


OWN_NET = """
from torch import nn


def build(*, num_classes, in_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""


def test_a_model_that_changed_under_an_interrupted_run_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ("--set", "model={name='own_net:build'}")
    (tmp_path / "own_net.py").write_text(OWN_NET)
    interrupt(tmp_path, monkeypatch, 3, *own)
    (tmp_path / "own_net.py").write_text(OWN_NET.replace("8", "16").replace("64", "64"))
    outcome = train(tmp_path, *own)
    assert outcome.code == 2
    (line,) = outcome.document["errors"]
    checkpoint = tmp_path / "runs/small/train-0001/checkpoint.pt"
    assert line.startswith("runs/small/train-0001/checkpoint.pt: does not fit the model")
    checkpoint.unlink()
    assert train(tmp_path, *own).code == 0


def test_event_files_need_a_package_and_the_error_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnntune.runs.tensorboard.find_spec", lambda _: None)
    outcome = train(tmp_path, "--tensorboard")
    assert outcome.code == 2
    assert outcome.document["errors"] == [
        "--tensorboard: needs the tensorboard package: pip install 'cnntune[tensorboard]'"
    ]
    assert not (tmp_path / "runs").exists()


def test_event_files_hold_the_curves_of_the_run_and_count_as_no_second_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="needs the tensorboard package")
    interrupt(tmp_path, monkeypatch, 3, "--tensorboard")
    run = tmp_path / str(train(tmp_path, "--tensorboard").document["run"])
    (events,) = run.glob("events.out.tfevents.*")
    alone = tmp_path / "elsewhere" / events.name
    alone.parent.mkdir()
    alone.write_bytes(events.read_bytes())

    def diagnosed(path: Path) -> dict[str, Any]:
        return call("diagnose", str(path), "--json", cwd=tmp_path).document

    (ours,) = diagnosed(run)["runs"]
    assert ours["format"] == "cnntune"
    (read,) = diagnosed(alone)["runs"]
    assert (read["format"], read["epochs"]) == ("tensorboard", 5)
    assert read["columns"] == {
        "train_loss": "loss/train",
        "val_loss": "loss/val",
        "train_acc": "acc/train",
        "val_acc": "acc/val",
        "lr": "lr",
    }
    assert (read["label"], read["best_epoch"]) == (ours["label"], ours["best_epoch"])


def test_a_trials_lock_is_freed_when_its_run_is_over(tmp_path: Path) -> None:
    run = tmp_path / str(train(tmp_path).document["run"])
    with locked(run) as ours, Study(tmp_path / "runs/small").lock():
        assert ours


def test_a_run_ends_while_a_search_is_at_work_in_its_study(tmp_path: Path) -> None:
    with Study(tmp_path / "runs/small").lock():
        outcome = train(tmp_path)
    assert outcome.code == 0, outcome.err
    assert outcome.document["test_images"] == 20  # 2 of each digit's 12


def test_a_run_that_waits_for_another_final_test_is_kept_and_goes_on_with_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say = Screen.say

    def stop_waiting(screen: Screen, text: str) -> None:
        say(screen, text)
        if "waiting for another final test" in text:
            raise KeyboardInterrupt

    monkeypatch.setattr(Screen, "say", stop_waiting)
    with locked(tmp_path / "runs/small", TEST_LOCK):
        stopped = train(tmp_path)
    assert stopped.code == 130
    summary = json.loads((tmp_path / "runs/small/train-0001/summary.json").read_text())
    assert (summary["status"], summary["epochs"]) == ("complete", 5)
    assert "test_acc" not in summary
    before = (tmp_path / "runs/small/train-0001/metrics.csv").read_bytes()
    again = train(tmp_path)
    assert again.document["run"] == "runs/small/train-0001"
    assert again.document["test_images"] == 20
    assert "train-0001 is trained" in again.err
    assert (tmp_path / "runs/small/train-0001/metrics.csv").read_bytes() == before
    assert train(tmp_path).document["run"] == "runs/small/train-0002"


@pytest.mark.parametrize("content", [b"", b"PK", b"nothing"])
def test_a_run_whose_weights_are_damaged_says_so_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    interrupt(tmp_path, monkeypatch, 5)
    weights_file = tmp_path / "runs/small/train-0001/best.pt"
    monkeypatch.setattr(
        "cnntune.steps.train_run.save_weights", lambda *_, **__: weights_file.write_bytes(content)
    )
    outcome = train(tmp_path)
    assert outcome.code == 2
    (line,) = outcome.document["errors"]
    assert line.startswith("runs/small/train-0001/best.pt: cannot load the weights of this model")


@pytest.mark.parametrize("content", [b"", b"PK", b"nothing"])
def test_a_damaged_checkpoint_costs_no_more_than_its_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path, content: bytes
) -> None:
    interrupt(tmp_path, monkeypatch, 4)
    run = tmp_path / "runs/small/train-0001"
    (run / "checkpoint.pt").write_bytes(content)
    assert train(tmp_path).code == 0
    assert rows(run) == rows(undisturbed)


# 20 test images are told by their pixels, 80 by the order of their labels.
@pytest.mark.parametrize(("size", "images"), [(120, 20), (400, 80)])
def test_test_images_that_another_study_looked_at_are_measured_with_a_warning(
    tmp_path: Path, size: int, images: int
) -> None:
    words = ("--set", f"data.size={size}", "--set", "train.epochs=1")
    first = train(tmp_path, *words).document
    assert first["findings"] == []
    elsewhere = train(tmp_path, *words, "--study", "elsewhere", "--set", "train.lr=0.1")
    assert elsewhere.code == 0
    assert elsewhere.document["test_images"] == images
    (finding,) = elsewhere.document["findings"]
    assert (finding["rule"], finding["severity"]) == ("test", "warn")
    assert finding["evidence"] == (
        "this was evaluation number 2 on these test images, after 1 in small"
    )
    others = ("--set", f"data.size={size - 20}", "--set", "train.epochs=1")
    assert train(tmp_path, *others, "--study", "third").document["findings"] == []


def test_the_looks_of_a_study_are_known_without_their_file(tmp_path: Path) -> None:
    words = ("--set", "train.epochs=1")
    train(tmp_path, *words)
    (tmp_path / "runs/small/test.json").unlink()
    second = train(tmp_path, *words).document
    assert "test_acc" not in second
    (finding,) = second["findings"]
    assert finding["evidence"].startswith("the test set was evaluated by train-0001")


def test_a_run_in_a_study_with_a_search_is_listed_with_what_was_asked(tmp_path: Path) -> None:
    train(tmp_path, "--set", "train.epochs=1")
    train(tmp_path, "--set", "train.epochs=2")
    about = json.loads((tmp_path / "runs/small/study.json").read_text())
    epochs = [command["argv"][-1] for command in about["commands"]]
    assert epochs == ["train.epochs=1", "train.epochs=2"]


@pytest.mark.parametrize("part", ["trial-0003", "refine-1/trial-0003"])
def test_a_trial_is_trained_in_the_study_that_holds_it_whatever_its_name(
    tmp_path: Path, part: str
) -> None:
    first = train(tmp_path, "--set", "train.epochs=1", "--runs", "out", "--study", "mine").document
    trial = tmp_path / "out/mine" / part  # as `tune` leaves it: study.json lies in the study alone
    trial.mkdir(parents=True)
    config = (tmp_path / first["run"] / "config.json").read_text()
    (trial / "config.json").write_text(config)
    path = f"out/mine/{part}/config.json"
    for words in ([path], [path, "--runs", "out"]):
        outcome = call("train", *words, "--set", "train.lr=0.1", "--json", cwd=tmp_path)
        assert outcome.document["study"] == "out/mine"
        (finding,) = outcome.document["findings"]  # its test part was looked at
        assert "evaluated by train-0001" in finding["evidence"]
    there = call("train", "config.json", "--no-test", "--json", cwd=trial)
    assert Path(there.document["study"]).resolve() == (tmp_path / "out/mine").resolve()
    apart = call("train", path, "--study", "other", "--no-test", "--json", cwd=tmp_path)
    assert apart.document["study"] == "runs/other"


def test_a_refused_look_names_the_first_one_which_is_the_one_to_report(tmp_path: Path) -> None:
    train(tmp_path, "--set", "train.epochs=1")
    train(tmp_path, "--set", "train.epochs=2", "--test-again")
    (finding,) = train(tmp_path, "--set", "train.epochs=3").document["findings"]
    assert finding["evidence"].startswith("the test set was evaluated by train-0001")
    assert "evaluated 1 more time since" in finding["evidence"]
