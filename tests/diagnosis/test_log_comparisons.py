"""Tables that compare models, classes or runs: they have no curve, whatever their columns."""

from pathlib import Path

import pytest

from cnntune.diagnosis.load_runs import ReadRun, read_paths
from cnntune.errors import DataError

EPOCHS = """| Epoch | Train loss | Val loss | Val acc |
|---|---|---|---|
| 1 | 1.60 | 1.90 | 53% |
| 2 | 1.28 | 1.64 | 56% |
| 3 | 1.02 | 1.43 | 59% |
| 4 | 0.82 | 1.24 | 62% |"""
MODELS = "| Model | Top-1 | Params |\n|---|---|---|\n| A | 71.2 | 11M |\n| B | 73.1 | 21M |"


def run_in(folder: Path, content: str, name: str) -> ReadRun:
    path = folder / name
    path.write_text(content)
    runs, _ = read_paths([path])
    (run,) = runs
    return run


@pytest.mark.parametrize("tables", [(EPOCHS, MODELS), (MODELS, EPOCHS), (MODELS, EPOCHS, MODELS)])
def test_a_table_of_models_beside_one_of_epochs_is_left_out(
    tmp_path: Path, tables: tuple[str, ...]
) -> None:
    run = run_in(tmp_path, "# Results\n\n" + "\n\n\n".join(tables) + "\n", "README.md")
    assert run.curve.epochs == [1, 2, 3, 4]
    assert run.curve.train_loss == [1.60, 1.28, 1.02, 0.82]
    assert run.columns["val_acc"] == "Val acc"
    assert "train_acc" not in run.columns
    assert run.notes == ()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            "| Model | Accuracy | Loss |\n|---|---|---|\n| ResNet18 | 71.2 | 1.2 |\n"
            "| ResNet34 | 73.3 | 1.1 |\n| ResNet50 | 76.1 | 0.9 |\n| ResNet101 | 77.3 | 0.85 |\n",
            "Model",
        ),
        ("class,accuracy,loss\ncat,0.7,0.9\ndog,0.8,0.7\nfrog,0.9,0.5\n", "class"),
    ],
)
def test_a_table_of_models_or_classes_alone_is_no_curve(
    tmp_path: Path, content: str, named: str
) -> None:
    with pytest.raises(DataError, match=f"a row per '{named}' and counts no epoch or step"):
        run_in(tmp_path, content, "models.md")


@pytest.mark.parametrize(
    "labels",
    [
        ("epoch_1", "epoch_2", "epoch_5"),
        ("model_10.pt", "model_20.pt", "model_30.pt"),
        ("Jan 3", "Jan 7", "Feb 1"),
        ("train", "train", "train"),
    ],
)
def test_rows_that_are_labelled_by_a_count_or_a_time_are_a_curve(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    rows = zip(labels, (1.9, 1.4, 1.1), (1.95, 1.6, 1.4), strict=True)
    content = "at,loss,val_loss\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows)
    assert run_in(tmp_path, content, "log.csv").curve.val_loss == [1.95, 1.6, 1.4]
