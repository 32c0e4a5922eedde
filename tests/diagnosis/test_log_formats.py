"""Each tool's log in its layout, and the curve read from it by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from log_files import event_file, mlflow_database, tensor_value, wandb_file

from cnntune.diagnosis.load_runs import ReadRun, read_paths

NAN, INF = math.nan, math.inf


def read(path: Path) -> list[ReadRun]:
    """All runs at or below a path, of which nothing may be skipped."""
    runs, skipped = read_paths([path])
    assert skipped == []
    return runs


def run_in(folder: Path, name: str, content: str | bytes) -> ReadRun:
    """The only run in a file of this name and content."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (run,) = read(path)
    return run


def test_ultralytics_classification(tmp_path: Path) -> None:
    run = run_in(
        tmp_path,
        "results.csv",
        "epoch,time,train/loss,metrics/accuracy_top1,metrics/accuracy_top5,val/loss,lr/pg0,lr/pg1\n"
        "1,12.3,1.51,0.42,0.91,1.33,0.000357,0.000357\n"
        "2,24.1,1.12,0.58,0.95,1.08,0.000636,0.000636\n"
        "3,36.0,0.87,0.66,0.97,0.94,0.000829,0.000829\n",
    )
    assert run.format == "ultralytics"
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [1.51, 1.12, 0.87]
    assert run.curve.val_loss == [1.33, 1.08, 0.94]
    assert run.curve.train_acc == ()
    assert run.curve.val_acc == [0.42, 0.58, 0.66]
    assert run.curve.lr == [0.000357, 0.000636, 0.000829]


def test_ultralytics_detection_pads_its_cells_and_logs_loss_components(tmp_path: Path) -> None:
    parts = ("box_loss", "cls_loss", "dfl_loss")
    scores = ("precision(B)", "mAP50(B)", "mAP50-95(B)")
    names = (
        "epoch",
        *(f"train/{part}" for part in parts),
        *(f"metrics/{score}" for score in scores),
        *(f"val/{part}" for part in parts),
        "lr/pg0",
    )
    rows = (
        (0, 1.5, 3.0, 1.25, 0.2, 0.2, 0.1, 1.25, 2.5, 1.25, 0.01),
        (1, 1.0, 2.0, 1.25, 0.4, 0.5, 0.25, 1.0, 2.0, 1.0, 0.01),
        (2, 0.75, 1.5, 1.0, 0.6, 0.7, 0.5, 1.0, 1.75, 1.0, 0.01),
    )
    lines = [",".join(f"{cell:>23}" for cell in line) for line in (names, *rows)]
    run = run_in(tmp_path, "results.csv", "\n".join(lines) + "\n")
    assert run.curve.epochs == [0, 1, 2]
    assert run.curve.train_loss == [5.75, 4.25, 3.25]
    assert run.curve.val_loss == [5.0, 4.0, 3.75]
    assert run.columns["val_loss"] == "val/box_loss + val/cls_loss + val/dfl_loss"
    assert "val_loss is the sum of 3 columns" in run.notes
    assert run.curve.val_acc == [0.2, 0.5, 0.7]


def test_timm_writes_percentages(tmp_path: Path) -> None:
    run = run_in(
        tmp_path,
        "summary.csv",
        "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n"
        "0,6.9,6.8,0.25,1.0,1e-06\n1,6.7,6.5,0.5,2.0,0.1\n2,6.5,6.2,1.0,4.0,0.09\n",
    )
    assert run.format == "timm"
    assert run.curve.val_loss == [6.8, 6.5, 6.2]
    assert run.curve.val_acc == [0.0025, 0.005, 0.01]  # not 25 %, although below 1
    assert run.curve.train_acc == ()


def test_keras_csv_logger(tmp_path: Path) -> None:
    run = run_in(
        tmp_path,
        "training.log",
        "epoch;accuracy;loss;val_accuracy;val_loss\n"
        "0;0.5;1.2;0.6;1.0\n1;0.7;0.8;NA;NA\n2;0.8;0.6;0.75;0.7\n3;0.9;0.5;0.8;0.6\n",
    )
    assert run.format == "keras"
    assert run.curve.epochs == [0, 2, 3]  # where there was a validation
    assert run.curve.train_acc == [0.5, 0.75, 0.9]  # the mean of 0.7 and 0.8
    assert run.curve.val_loss == [1.0, 0.7, 0.6]


def test_keras_history_as_json(tmp_path: Path) -> None:
    history = {"loss": [1.0, 0.5, NAN], "accuracy": [0.4, 0.6, 0.1], "val_loss": [1.1, 0.7, NAN]}
    run = run_in(tmp_path, "history.json", json.dumps(history))
    assert run.format == "keras"
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss[:2] == [1.0, 0.5]
    assert math.isnan(run.curve.train_loss[2] or 0)
    assert run.columns == {"train_loss": "loss", "val_loss": "val_loss", "train_acc": "accuracy"}


def test_lightning_logs_steps_validations_and_epochs_on_separate_rows(tmp_path: Path) -> None:
    run = run_in(
        tmp_path,
        "lightning_logs/version_0/metrics.csv",
        "epoch,lr-SGD,step,train_acc,train_loss_epoch,train_loss_step,val_acc,val_loss\n"
        "0,,49,,,2.0,,\n"
        "0,,99,,,1.0,,\n"
        "0,,99,,,,0.5,1.25\n"
        "0,,99,0.4,1.5,,,\n"
        "1,,149,,,0.75,,\n"
        "1,,199,,,,0.625,1.0\n"
        "1,,199,0.6,0.75,,,\n"
        "2,,249,,,0.5,,\n"
        "2,,299,,,,0.75,0.75\n"
        "2,,299,0.7,0.5,,,\n",
    )
    assert run.format == "lightning"
    assert run.curve.epochs == [0, 1, 2]
    assert run.columns["train_loss"] == "train_loss_epoch"
    assert run.curve.train_loss == [1.5, 0.75, 0.5]
    assert run.curve.train_acc == [0.4, 0.6, 0.7]
    assert run.curve.val_loss == [1.25, 1.0, 0.75]
    assert run.curve.val_acc == [0.5, 0.625, 0.75]


def test_hugging_face_trainer_state(tmp_path: Path) -> None:
    log = [
        {"epoch": 0.5, "learning_rate": 4e-5, "loss": 0.75, "grad_norm": 3.0, "step": 10},
        {"epoch": 1.0, "learning_rate": 3e-5, "loss": 0.25, "grad_norm": 2.0, "step": 20},
        {"epoch": 1.0, "eval_accuracy": 0.8, "eval_loss": 0.5, "eval_runtime": 1.5, "step": 20},
        {"epoch": 2.0, "loss": 0.25, "step": 40},
        {"epoch": 2.0, "eval_accuracy": 0.85, "eval_loss": 0.375, "step": 40},
        {"epoch": 3.0, "loss": 0.125, "step": 60},
        {"epoch": 3.0, "eval_accuracy": 0.9, "eval_loss": 0.25, "step": 60},
        {"epoch": 3.0, "step": 60, "train_loss": 0.34, "train_runtime": 99.0, "total_flos": 1e15},
    ]
    state = {"best_metric": 0.25, "epoch": 3.0, "global_step": 60, "log_history": log}
    run = run_in(tmp_path, "trainer_state.json", json.dumps(state, indent=2))
    assert run.format == "huggingface"
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [0.5, 0.25, 0.125]  # the total in the last entry is not a point
    assert run.curve.val_loss == [0.5, 0.375, 0.25]
    assert run.curve.val_acc == [0.8, 0.85, 0.9]


def test_fastai_measures_its_accuracy_on_the_validation_set(tmp_path: Path) -> None:
    run = run_in(
        tmp_path,
        "history.csv",
        "epoch,train_loss,valid_loss,error_rate,time\n"
        "0,1.5,1.25,0.5,00:12\n1,1.0,0.75,0.25,00:11\n2,0.5,0.5,#na#,00:11\n",
    )
    assert run.format == "fastai"
    assert run.curve.train_acc == ()
    assert run.curve.val_acc == [0.5, 0.75, None]
    assert run.curve.val_loss == [1.25, 0.75, 0.5]


def test_tensorboard_from_pytorch(tmp_path: Path) -> None:
    scalars = [
        (tag, step, value / step)
        for step in (1, 2, 4)
        for tag, value in (("Loss/train", 1.0), ("Loss/val", 1.5), ("Accuracy/val", 0.25))
    ]
    run = run_in(tmp_path, "events.out.tfevents.1700000000.host.1.0", event_file(scalars))
    assert run.format == "tensorboard"
    assert run.curve.epochs == [1, 2, 4]
    assert run.curve.train_loss == [1.0, 0.5, 0.25]
    assert run.curve.val_loss == [1.5, 0.75, 0.375]
    assert run.curve.val_acc == [0.25, 0.125, 0.0625]


def test_tensorboard_from_keras_has_the_split_in_the_folder(tmp_path: Path) -> None:
    for folder, start in (("train", 1.0), ("validation", 1.5)):
        scalars = [("epoch_loss", epoch, start / 2**epoch) for epoch in range(3)]
        (tmp_path / "logs" / folder).mkdir(parents=True)
        name = "events.out.tfevents.1700000000.host.1.0.v2"
        (tmp_path / "logs" / folder / name).write_bytes(event_file(scalars, tensor_value))
    (run,) = read(tmp_path)
    assert run.path == tmp_path / "logs"
    assert run.curve.train_loss == [1.0, 0.5, 0.25]
    assert run.curve.val_loss == [1.5, 0.75, 0.375]


def test_tensorboard_from_add_scalars(tmp_path: Path) -> None:
    main = [("lr", step, 0.5) for step in (1, 2, 3)]
    folders = {"": main, "loss_train": [], "loss_val": []}
    for folder, start in (("loss_train", 2.0), ("loss_val", 3.0)):
        folders[folder] = [("loss", step, start / step) for step in (1, 2, 4)]
    for folder, scalars in folders.items():
        (tmp_path / folder).mkdir(exist_ok=True)
        name = "events.out.tfevents.1700000000.host.1.0"
        (tmp_path / folder / name).write_bytes(event_file(scalars))
    (run,) = read(tmp_path)
    assert run.curve.train_loss == [2.0, 1.0, 0.5]
    assert run.curve.val_loss == [3.0, 1.5, 0.75]
    assert run.curve.lr == [0.5, 0.5, 0.5]


def test_several_event_files_in_a_folder_are_one_run_resumed(tmp_path: Path) -> None:
    first = [("val/loss", step, 8.0 - step) for step in (1, 2, 3, 4)]
    later = [("val/loss", step, 2.0 / step) for step in (4, 8)]
    for place, scalars in enumerate((first, later)):
        name = f"events.out.tfevents.170000000{place}.host.1.0"
        (tmp_path / name).write_bytes(event_file(scalars))
    (run,) = read(tmp_path)
    assert run.path == tmp_path
    assert run.curve.epochs == [1, 2, 3, 4, 8]
    assert run.curve.val_loss == [7, 6, 5, 0.5, 0.25]


def test_event_files_that_restart_are_two_runs(tmp_path: Path) -> None:
    for place in (0, 1):
        scalars = [("val/loss", step, float(10 * place + step)) for step in (1, 2, 3)]
        name = f"events.out.tfevents.170000000{place}.host.1.0"
        (tmp_path / name).write_bytes(event_file(scalars))
    first, second = read(tmp_path)
    assert [first.path.name, second.path.name] == [f"{tmp_path.name}#1", f"{tmp_path.name}#2"]
    assert first.curve.val_loss == [1, 2, 3]
    assert second.curve.val_loss == [11, 12, 13]


def test_mlflow_database_stores_nan_as_zero_with_a_flag(tmp_path: Path) -> None:
    metrics = [
        ("a" * 32, key, value, step, False)
        for key, values in (("train_loss", (1.0, 0.5, 0.25)), ("val_loss", (1.5, 0.75)))
        for step, value in enumerate(values)
    ]
    metrics += [("a" * 32, "val_loss", 0.0, 2, True)]
    metrics += [("a" * 32, "val_loss", 1.7976931348623157e308, 3, False)]
    metrics += [("b" * 32, "val_loss", 9.0, step, False) for step in range(4)]
    mlflow_database(tmp_path / "mlflow.db", metrics, deleted=["b" * 32])
    (run,) = read(tmp_path / "mlflow.db")
    assert run.path.name == f"mlflow.db#{'a' * 32}-name"
    assert run.curve.epochs == [0, 1, 2, 3]
    assert run.curve.train_loss == [1.0, 0.5, 0.25, None]
    assert run.curve.val_loss[:2] == [1.5, 0.75]
    assert math.isnan(run.curve.val_loss[2] or 0)
    assert run.curve.val_loss[3] == INF


def test_mlflow_folder(tmp_path: Path) -> None:
    run_folder = tmp_path / "mlruns" / "0" / "0123456789abcdef"
    (run_folder / "metrics" / "val").mkdir(parents=True)
    (run_folder / "params").mkdir()
    (run_folder / "params" / "lr").write_text("0.1")
    (run_folder / "meta.yaml").write_text("lifecycle_stage: active\nname: x\n")
    (run_folder / "metrics" / "train_loss").write_text(
        "1700000000000 1.0 0\n1700000000001 0.5 1\n1700000000002 0.25 2\n"
    )
    (run_folder / "metrics" / "val" / "loss").write_text(
        "1700000000000 1.5 0\n1700000000001 0.75 1\n1700000000002 nan 2\n1700000000003 0.4"
    )
    (run,) = read(tmp_path)
    assert (run.path, run.format) == (run_folder, "mlflow")
    assert run.columns == {"train_loss": "train_loss", "val_loss": "val/loss"}
    assert run.curve.train_loss == [1.0, 0.5, 0.25]
    assert run.curve.val_loss[:2] == [1.5, 0.75]
    assert math.isnan(run.curve.val_loss[2] or 0)


def test_mmengine_counts_validations_in_epochs_and_training_in_iterations(tmp_path: Path) -> None:
    lines = [
        {"lr": 0.1, "data_time": 0.01, "loss": 2.0, "epoch": 1, "step": 50},
        {"lr": 0.1, "data_time": 0.01, "loss": 1.0, "epoch": 1, "step": 100},
        {"accuracy/top1": 50.0, "data_time": 0.1, "time": 0.1, "step": 1},
        {"lr": 0.1, "data_time": 0.01, "loss": 1.0, "epoch": 2, "step": 200},
        {"accuracy/top1": 60.0, "data_time": 0.1, "time": 0.1, "step": 2},
        {"lr": 0.1, "data_time": 0.01, "loss": 0.5, "epoch": 3, "step": 300},
        {"accuracy/top1": 70.0, "data_time": 0.1, "time": 0.1, "step": 3},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    run = run_in(tmp_path, "20240101_120000/vis_data/scalars.json", content)
    assert run.format == "mmengine"
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [1.5, 1.0, 0.5]
    assert run.curve.val_acc == [0.5, 0.6, 0.7]


def test_detectron2_counts_iterations(tmp_path: Path) -> None:
    lines = [
        {"iteration": step, "total_loss": 4.0 / place, "loss_cls": 1.0, "lr": 0.01}
        | ({"validation_loss": 5.0 / place} if step % 40 == 39 else {})
        for place, step in enumerate((19, 39, 59, 79, 99, 119), start=1)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    run = run_in(tmp_path, "metrics.json", content)
    assert run.format == "detectron2"
    assert run.curve.epochs == [39, 79, 119]
    assert run.curve.val_loss == [2.5, 1.25, 5.0 / 6]
    assert run.curve.train_loss == pytest.approx([3.0, (4 / 3 + 1) / 2, (4 / 5 + 4 / 6) / 2])
    assert "the unit is the step: no column counts epochs" in run.notes


def test_deit_calls_its_validation_set_test(tmp_path: Path) -> None:
    lines = [
        {"train_lr": 0.001, "train_loss": 6.0 - e, "test_loss": 5.0 - e, "test_acc1": 10.0 * e + 1}
        | {"test_acc5": 50.0, "epoch": e, "n_parameters": 5717416}
        for e in range(3)
    ]
    run = run_in(tmp_path, "log.txt", "".join(json.dumps(line) + "\n" for line in lines))
    assert run.format == "jsonl"
    assert run.curve.val_loss == [5.0, 4.0, 3.0]
    assert run.curve.val_acc == [0.01, 0.11, 0.21]


def test_printed_dicts_of_the_hugging_face_trainer(tmp_path: Path) -> None:
    run = run_in(
        tmp_path,
        "nohup.out",
        "Some weights were newly initialized\n"
        "{'loss': 0.75, 'grad_norm': 2.0, 'learning_rate': 5e-05, 'epoch': 1.0}\n"
        "{'eval_loss': 0.5, 'eval_accuracy': 0.75, 'eval_runtime': 2.0, 'epoch': 1.0}\n"
        "{'loss': 0.5, 'grad_norm': nan, 'learning_rate': 3e-05, 'epoch': 2.0}\n"
        "{'eval_loss': 0.375, 'eval_accuracy': 0.8, 'eval_runtime': 2.0, 'epoch': 2.0}\n"
        "{'loss': 0.25, 'grad_norm': 1.0, 'learning_rate': 1e-05, 'epoch': 3.0}\n"
        "{'eval_loss': 0.25, 'eval_accuracy': 0.85, 'eval_runtime': 2.0, 'epoch': 3.0}\n",
    )
    assert run.curve.train_loss == [0.75, 0.5, 0.25]
    assert run.curve.val_loss == [0.5, 0.375, 0.25]
    assert run.curve.val_acc == [0.75, 0.8, 0.85]


def test_mmcv_json_names_the_split_in_a_mode(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"env_info": "sys.platform: linux", "seed": 0}]
    for epoch in (1, 2, 3):
        for place in (100, 200):
            train = {"mode": "train", "epoch": epoch, "iter": place, "lr": 0.1, "loss": 2.0 / epoch}
            lines.append(train)
        val = {"mode": "val", "epoch": epoch, "iter": 50, "lr": 0.1, "accuracy_top-1": 20.0 * epoch}
        lines.append(val)
    content = "".join(json.dumps(line) + "\n" for line in lines)
    run = run_in(tmp_path, "20230101_120000.log.json", content)
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [2.0, 1.0, 2 / 3]
    assert run.curve.val_acc == [0.2, 0.4, 0.6]


def test_wandb_chart_holds_many_runs(tmp_path: Path) -> None:
    path = tmp_path / "wandb_export.csv"
    path.write_text(
        '"Step","warm-sun-1 - val_loss","warm-sun-1 - val_loss__MIN","warm-sun-1 - val_loss__MAX",'
        '"cold-sea-2 - val_loss","cold-sea-2 - val_loss__MIN","cold-sea-2 - val_loss__MAX"\n'
        '"0","1.0","1.0","1.0","2.0","2.0","2.0"\n'
        '"1","0.5","0.5","0.5","","",""\n'
        '"2","0.25","0.25","0.25","1.5","1.5","1.5"\n'
        '"3","","","","1.0","1.0","1.0"\n'
    )
    first, second = read(path)
    assert [run.path.name for run in (first, second)] == [
        "wandb_export.csv#warm-sun-1",
        "wandb_export.csv#cold-sea-2",
    ]
    assert first.format == "wandb"
    assert (first.curve.epochs, first.curve.val_loss) == ([0, 1, 2], [1.0, 0.5, 0.25])
    assert (second.curve.epochs, second.curve.val_loss) == ([0, 2, 3], [2.0, 1.5, 1.0])


@pytest.mark.parametrize("name", ["short", "a name so long that records go over blocks " * 200])
def test_wandb_offline_run(tmp_path: Path, name: str) -> None:
    rows = [
        {"_step": step, "epoch": step, "train/loss": 1.0 / 2**step, name: 1.0, "val/loss": value}
        for step, value in enumerate((1.5, 0.75, INF))
    ]
    run = run_in(tmp_path, "offline-run-1/run-1.wandb", wandb_file(rows))
    assert run.format == "wandb"
    assert run.curve.epochs == [0, 1, 2]
    assert run.curve.train_loss == [1.0, 0.5, 0.25]
    assert run.curve.val_loss == [1.5, 0.75, INF]


def test_a_wandb_block_may_end_anywhere(tmp_path: Path) -> None:
    for length in range(
        32_640, 32_700
    ):  # the first record ends before, in and after a chunk header
        rows = [{"epoch": e, "x" * (length if e == 0 else 1): 1.0, "loss": 2.0} for e in range(4)]
        run = run_in(tmp_path, "run.wandb", wandb_file(rows))
        assert run.curve.train_loss == [2.0] * 4
        assert run.notes == ()


def test_dvclive_has_one_table_per_metric(tmp_path: Path) -> None:
    plots = tmp_path / "dvclive" / "plots" / "metrics"
    for split, values in (("train", (1.0, 0.5, 0.25)), ("val", (1.5, 0.75, 0.5))):
        (plots / split).mkdir(parents=True)
        rows = "".join(f"{step}\t{value}\n" for step, value in enumerate(values))
        (plots / split / "loss.tsv").write_text(f"step\tloss\n{rows}")
    (tmp_path / "dvclive" / "metrics.json").write_text('{"train": {"loss": 0.25}, "step": 2}')
    (run,) = read(tmp_path)
    assert (run.path, run.format) == (tmp_path / "dvclive", "dvclive")
    assert run.curve.train_loss == [1.0, 0.5, 0.25]
    assert run.curve.val_loss == [1.5, 0.75, 0.5]


def test_pytorch_imagenet_example(tmp_path: Path) -> None:
    lines = ["=> creating model 'resnet18'"]
    for epoch, (loss, acc) in enumerate(((6.5, 1.25), (5.5, 5.0), (4.5, 12.5))):
        lines += [
            f"Epoch: [{epoch}][{batch:4}/5005]\tTime  0.2 (  0.3)\tData  0.1 (  0.1)\t"
            f"Loss 9.9000e+00 ({loss + (batch == 0):.4e})\tAcc@1   0.00 (  {acc:.2f})\t"
            "Acc@5   0.39 (  0.50)"
            for batch in (0, 10)
        ]
        lines.append(
            f"Test: [390/391]\tTime  0.1 (  0.2)\tLoss 1.0000e+00 ({loss - 0.25:.4e})\t"
            f"Acc@1   9.00 (  9.00)\tAcc@5  20.00 ( 20.00)"
        )
        lines.append(f" *   Acc@1 {acc + 1:.3f} Acc@5 20.000")
    run = run_in(tmp_path, "train.log", "\n".join(lines) + "\n")
    assert run.format == "text"
    assert run.curve.epochs == [0, 1, 2]
    assert run.curve.train_loss == [6.5, 5.5, 4.5]  # the running mean at the end of the epoch
    assert run.curve.val_loss == [6.25, 5.25, 4.25]
    assert run.curve.train_acc == [0.0125, 0.05, 0.125]
    assert run.curve.val_acc == [0.0225, 0.06, 0.135]


def test_bearpaw_log(tmp_path: Path) -> None:
    run = run_in(
        tmp_path,
        "log.txt",
        "Learning Rate\tTrain Loss\tValid Loss\tTrain Acc.\tValid Acc.\t\n"
        "0.100000\t1.500000\t1.250000\t45.000000\t55.000000\t\n"
        "0.100000\t1.000000\t1.125000\t65.000000\t60.000000\t\n"
        "0.010000\t0.500000\t0.750000\t82.000000\t75.000000\t\n",
    )
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [1.5, 1.0, 0.5]
    assert run.curve.val_acc == [0.55, 0.6, 0.75]
    assert run.curve.lr == [0.1, 0.1, 0.01]


def test_mmcv_text_log(tmp_path: Path) -> None:
    lines = ["2023-02-06 11:42:43,804 - mmcls - INFO - Environment info:"]
    for epoch in (1, 2, 3):
        for batch, loss in ((100, 3.0 / epoch), (200, 1.0 / epoch)):
            lines.append(
                f"2023-02-06 11:4{epoch}:43,804 - mmcls - INFO - Epoch [{epoch}][{batch}/391]\t"
                f"lr: 1.000e-01, eta: 0:46:56, time: 0.015, memory: 329, loss: {loss:.4f}"
            )
        lines.append(
            f"2023-02-06 11:4{epoch}:50,804 - mmcls - INFO - Epoch(val) [{epoch}][157]\t"
            f"accuracy_top-1: {30.0 * epoch:.4f}, accuracy_top-5: 99.8900"
        )
    run = run_in(tmp_path, "20230206_114243.log", "\n".join(lines) + "\n")
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == pytest.approx([2.0, 1.0, 2 / 3], abs=1e-4)
    assert run.curve.val_acc == [0.3, 0.6, 0.9]
    assert run.curve.val_loss == ()


def test_a_table_in_a_log_with_times(tmp_path: Path) -> None:
    def line(text: str) -> str:
        return f"[2020/01/29 22:27:26] - {text}\n"

    header = "Epoch \t Train Time \t LR \t \t Train Loss \t Train Acc \t Test Loss \t Test Acc"
    rows = [f"{e} \t 277.3 \t \t 0.1000 \t {2.0 / (e + 1)} \t 0.5 \t 1.5 \t 0.4" for e in range(3)]
    content = line("Namespace(attack='pgd', epochs=110, lr_max=0.1)") + "".join(
        map(line, (header, *rows))
    )
    run = run_in(tmp_path, "output.log", content)
    assert run.curve.epochs == [0, 1, 2]
    assert run.curve.train_loss == [2.0, 1.0, 2 / 3]
    assert run.curve.val_loss == [1.5, 1.5, 1.5]
    assert run.curve.lr == [0.1, 0.1, 0.1]


TEXT_LOGS = {
    "keras progress": (
        "Epoch {e}/3\n"
        "391/391 [=====] - 10s 6ms/step - loss: {t} - accuracy: 0.5 - val_loss: {v}"
        " - val_accuracy: {a}\n"
        "Epoch {e}: val_loss improved from 9.00000 to 8.00000, saving model to best.keras\n"
    ),
    "pytorch transfer learning": (
        "Epoch {e}/24\n----------\ntrain Loss: {t} Acc: 0.5\nval Loss: {v} Acc: {a}\n\n"
    ),
    "pytorch mnist": (
        "Train Epoch: {e} [0/60000 (0%)]\tLoss: {t}\n\n"
        "Test set: Average loss: {v}, Accuracy: {k}/10000 ({p:.0f}%)\n\n"
    ),
    "pytorch quickstart": (
        "Epoch {e}\n-------------------------------\nloss: {t}  [   64/60000]\n"
        "Test Error: \n Accuracy: {p}%, Avg loss: {v} \n\n"
    ),
    "columns of bars": "epoch {e:3d} | train loss {t} | val loss {v} | val acc {p}% | 5.00s\n",
    "equals": "[INFO] Epoch {e}: train_loss={t}, train_acc=0.5, val_loss={v}, val_acc={a}\n",
    "words": (
        "Epoch [{e}/30], Train Loss: {t}, Validation Loss: {v}, Validation Accuracy: {p}%\n"
        "Best epoch: 1, Validation Loss: 0.125\n"
    ),
    "timm": (
        "Train: {e} [   0/1251 (  0%)]  Loss: 9.9 ({t})  Time: 3.5s,  292.10/s  LR: 1.000e-06\n"
        "Test: [  78/78]  Time: 0.9 (0.3)  Loss:  9.0 ({v})  Acc@1: 1.0 ({p})  Acc@5: 2.0 (2.0)\n"
    ),
    "kuangliu": (
        "\nEpoch: {e}\n 390/391 ... Loss: {t} | Acc: 50.0% (64/128)\r\n"
        "Validation:\n 100/100 ... Loss: {v} | Acc: {p}% (12/100)\n"
    ),
}


@pytest.mark.parametrize("layout", TEXT_LOGS)
def test_printed_lines(tmp_path: Path, layout: str) -> None:
    content = "".join(
        TEXT_LOGS[layout].format(e=e, t=t, v=v, a=a, p=100 * a, k=round(10_000 * a))
        for e, t, v, a in ((1, 1.5, 1.25, 0.5), (2, 1.0, 0.75, 0.625), (3, 0.5, 0.625, 0.75))
    )
    run = run_in(tmp_path, "train.log", content)
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [1.5, 1.0, 0.5]
    assert run.curve.val_loss == [1.25, 0.75, 0.625]
    assert run.curve.val_acc == [0.5, 0.625, 0.75]


def test_json_of_many_layouts(tmp_path: Path) -> None:
    shapes = {
        "lists by split": {"train": {"loss": [3.0, 2.0, 1.0]}, "valid": {"loss": [4.0, 3.0, 2.0]}},
        "lists by kind": {"loss": {"train": [3.0, 2.0, 1.0], "val": [4.0, 3.0, 2.0]}},
        "under a name": {"config": {"lr": 0.1}, "history": {"train_loss": [3.0, 2.0, 1.0]}}
        | {"best": 2.0},
        "records": [{"epoch": e, "train": {"loss": 4.0 - e}} for e in (1, 2, 3)],
        "records under a name": {"log": [{"epoch": e, "train_loss": 4.0 - e} for e in (1, 2, 3)]},
        "pandas": {"train_loss": {"0": 3.0, "1": 2.0, "2": 1.0}},
    }
    for name, document in shapes.items():
        run = run_in(tmp_path, f"{name}.json", json.dumps(document))
        assert run.curve.train_loss == [3.0, 2.0, 1.0], name
        assert run.curve.epochs == [1, 2, 3], name


def test_json_with_folds_is_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    fold = {"train_loss": [3.0, 2.0, 1.0], "val_loss": [4.0, 3.0, 2.0]}
    path.write_text(json.dumps({"fold_0": fold, "fold_1": {**fold, "val_loss": [5.0, 4.0, 4.5]}}))
    first, second = read(path)
    assert [first.path.name, second.path.name] == ["folds.json#fold_0", "folds.json#fold_1"]
    assert second.curve.val_loss == [5.0, 4.0, 4.5]
