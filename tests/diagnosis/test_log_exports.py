"""Exports, tables and lists: the same three epochs as different tools write them."""

import json
from pathlib import Path

import pytest
from log_files import study_database

from cnntune.diagnosis.load_runs import ReadRun, read_paths
from cnntune.errors import DataError

TRAIN, VAL = [2.5, 1.5, 0.75], [2.75, 2.0, 1.25]
ROWS = list(zip(range(3), TRAIN, VAL, strict=True))
LONG = [
    {"metricName": name, "metricValue": str(value), "step": at, "epoch": at, "timestamp": 1}
    for at, train, val in ROWS
    for name, value in (("train_loss", train), ("val_loss", val))
]
BOX = (
    "┏━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━━┓\n"
    "┃ Epoch ┃ Train Loss ┃ Val Loss ┃\n"
    "┡━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━━┩\n"
)
MATLAB = (
    "|  Epoch  |  Iteration  |  Mini-batch  |  Validation  |\n"
    "|         |             |     Loss     |     Loss     |\n"
)
SKORCH = (
    "  epoch    train_loss    valid_loss     dur\n-------  ------------  ------------  ------\n"
)
GBM = "      Iter       Train Loss       Valid Loss   Remaining Time \n"


def lines(form: str) -> str:
    return "".join(form.format(at=at, train=train, val=val) + "\n" for at, train, val in ROWS)


CASES = {
    "a box of Rich": ("log", BOX + lines("│ {at:5d} │ {train:10.4f} │ {val:8.4f} │")),
    "MATLAB's header of two lines": (
        "log",
        MATLAB + lines("|  {at:5d}  |  {at:9d}  |  {train:10.4f}  |  {val:10.4f}  |"),
    ),
    "skorch's colours": (
        "log",
        SKORCH + lines("{at:7d}  \x1b[36m{train:.4f}\x1b[0m  \x1b[35m{val:.4f}\x1b[0m  0.0500"),
    ),
    "names of two words": ("log", GBM + lines("{at:10d} {train:16.4f} {val:16.4f}   1.20s")),
    "Python lists": ("log", f"Train losses: {TRAIN}\nVal losses: {VAL}\n"),
    "assigned lists": ("log", f"train_loss = {TRAIN}\nval_loss = {VAL}\n"),
    "NumPy arrays": ("log", "train loss: [2.5  1.5\n 0.75]\nval loss: [2.75 2.   1.25]\n"),
    "lists of YAML": (
        "yaml",
        "train_loss:\n- 2.5\n- 1.5\n- 0.75\nval_loss:\n- 2.75\n- 2.0\n- 1.25\n",
    ),
    "a row per curve": ("csv", "epoch,1,2,3\ntrain_loss,2.5,1.5,0.75\nval_loss,2.75,2.0,1.25\n"),
    "a row per value": (
        "csv",
        "epoch,metric,value\n" + lines("{at},train_loss,{train}\n{at},val_loss,{val}"),
    ),
    "MLflow's table": (
        "csv",
        "key,value,timestamp,step,run_id\n"
        + lines("loss/train,{train},1,{at},r\nloss/val,{val},1,{at},r"),
    ),
    "Aim's table": (
        "csv",
        "run.hash,metric.name,context.subset,step,value\n"
        + lines("abc,loss,train,{at},{train}\nabc,loss,val,{at},{val}"),
    ),
    "Aim's lines": (
        "jsonl",
        "".join(
            json.dumps({"name": "loss", "context": {"subset": split}, "step": at, "value": value})
            + "\n"
            for at, train, val in ROWS
            for split, value in (("train", train), ("val", val))
        ),
    ),
    "Comet's list": ("json", json.dumps(LONG)),
    "Comet's document": ("json", json.dumps({"metrics": LONG})),
    "lines of a chart": (
        "json",
        json.dumps(
            [
                {"name": "train loss", "x": [0, 1, 2], "y": TRAIN},
                {"name": "val loss", "x": [0, 1, 2], "y": VAL},
            ]
        ),
    ),
    "XGBoost's two sets": (
        "log",
        lines("[{at}]\tvalidation_0-logloss:{train}\tvalidation_1-logloss:{val}"),
    ),
    "Polish": ("log", lines("Epoka {at}: strata treningowa: {train}, strata walidacyjna: {val}")),
    "Dutch": ("log", lines("Epoch {at}: trainingsverlies: {train}, validatieverlies: {val}")),
    "Turkish": ("log", lines("Epoch {at}: eğitim kaybı: {train}, doğrulama kaybı: {val}")),
    "Korean": ("log", lines("에포크 {at}: 훈련 손실: {train}, 검증 손실: {val}")),
}


def read(path: Path) -> ReadRun:
    (run,), _ = read_paths([path])
    return run


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("case", CASES)
def test_both_losses_are_read_from(case: str, tmp_path: Path) -> None:
    suffix, content = CASES[case]
    curve = read(written(tmp_path, f"history.{suffix}", content)).curve
    assert (curve.train_loss, curve.val_loss) == (TRAIN, VAL)


def test_the_first_of_two_sets_with_worse_values_is_not_called_training(tmp_path: Path) -> None:
    log = lines("[{at}]\tvalidation_0-logloss:{val}\tvalidation_1-logloss:{train}")
    run = read(written(tmp_path, "train.log", log))
    assert run.curve.train_loss is None or not any(run.curve.train_loss)
    assert run.curve.val_loss == VAL


def test_the_accuracy_in_a_report_of_scikit_learn_is_no_curve(tmp_path: Path) -> None:
    report = (
        "              precision    recall  f1-score   support\n\n"
        "         cat       0.80      0.81      0.82       100\n\n"
        "    accuracy                           0.85       100\n"
        "   macro avg       0.85      0.85      0.85       100\n"
    )
    run = read(written(tmp_path, "train.log", lines("epoch {at} train loss {train}") + report))
    assert set(run.columns) == {"train_loss"}


def test_lists_of_accuracies_alone_may_be_those_of_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a training log"):
        read(written(tmp_path, "train.log", "accuracy: [0.9, 0.8, 0.7]\nrecall: [0.7, 0.8, 0.9]\n"))


@pytest.mark.parametrize(
    ("direction", "curve"), [("MINIMIZE", "val_loss"), ("MAXIMIZE", "val_acc")]
)
def test_reported_values_of_an_optuna_database_are_a_curve(
    direction: str, curve: str, tmp_path: Path
) -> None:
    run = read(study_database(tmp_path / "study.db", direction, [0.5, 0.25, 0.75]))
    assert getattr(run.curve, curve) == [0.5, 0.25, 0.75]
    assert "taken for the validation" in run.notes[0]


@pytest.mark.parametrize(
    ("values", "reason"),
    [([], "without intermediate values"), ([-5.0, 200.0, 3.0], "neither a loss")],
)
def test_an_optuna_database_without_a_curve_says_why(
    values: list[float], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=reason):
        read(study_database(tmp_path / "study.db", "MAXIMIZE", values))


def test_reported_values_of_an_optuna_journal_are_a_curve(tmp_path: Path) -> None:
    operations = [
        {"op_code": 0, "study_name": "s", "directions": [1]},
        {"op_code": 4, "study_id": 0},
        *(
            {"op_code": 7, "trial_id": 0, "step": at, "intermediate_value": val}
            for at, _, val in ROWS
        ),
    ]
    journal = "".join(json.dumps(operation) + "\n" for operation in operations)
    assert read(written(tmp_path, "journal.log", journal)).curve.val_loss == VAL
