"""`search --tensorboard`: what TensorBoard reads of a study."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import QUICK, call

pytest.importorskip("tensorboard", reason="needs the tensorboard package")

SEARCH = ("search", *QUICK, "--budget", "2", "--epochs", "2", "--workers", "1", "--tensorboard")


def events_of(folder: Path) -> Any:
    """The event file of a run, by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def hparams_of(accumulator: Any) -> dict[str, Any]:
    """The line of the HParams table."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    held = accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = HParamsPluginData.FromString(held).session_start_info
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("events")
    assert call(*SEARCH, "--quiet", "--json", cwd=folder).code in (0, 1)
    return folder / "runs" / "digits"


@pytest.mark.parametrize("number", [0, 1])
def test_each_trial_has_its_curves_and_its_line_of_the_hparams_table(
    number: int, study: Path
) -> None:
    trial = study / f"trial-{number:04d}"
    found = events_of(trial)
    rows = [line.split(",") for line in (trial / "metrics.csv").read_text().splitlines()]
    column = rows[0].index("val_acc")
    logged = [(event.step, event.value) for event in found.Scalars("acc/val")]
    assert logged == [(int(row[0]), pytest.approx(float(row[column]))) for row in rows[1:]]
    best = json.loads((trial / "summary.json").read_text())["val_acc"]
    assert found.Scalars("best/val_acc")[0].value == pytest.approx(best)
    config = json.loads((trial / "config.json").read_text())
    values = hparams_of(found)
    assert values["train.lr"] == pytest.approx(config["train"]["lr"])
    assert values["model.dropout"] == pytest.approx(config["model"]["dropout"])


def test_without_the_option_no_event_file_is_written(study: Path) -> None:
    words = [word for word in SEARCH if word != "--tensorboard"]
    call(*words, "--study", "plain", "--quiet", "--json", cwd=study.parents[1])
    assert list(study.parent.glob("plain/trial-*/metrics.csv"))
    assert not list(study.parent.glob("plain/trial-*/events*"))
