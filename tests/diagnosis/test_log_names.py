"""The words in the names of columns, tool by tool, with the meaning a person would give them."""

import pytest

from cnntune.diagnosis.logs.names import meaning

# name: split, kind; "" where the name alone does not say it
NAMES = {
    "ultralytics": {
        "train/loss": "train loss",
        "val/loss": "val loss",
        "metrics/accuracy_top1": "val accuracy",
        "metrics/mAP50-95(B)": "val accuracy",
        "train/box_loss": "train loss",
        "val/dfl_loss": "val loss",
        "lr/pg0": " lr",
        "x/lr0": " lr",
        "metrics/mAP_0.5:0.95": "val accuracy",
        "time": " other",
        "epoch": " epoch",
    },
    "timm": {
        "train_loss": "train loss",
        "eval_loss": "val loss",
        "eval_top1": "val accuracy",
        "lr": " lr",
    },
    "keras": {
        "loss": " loss",
        "accuracy": " accuracy",
        "val_loss": "val loss",
        "val_sparse_categorical_accuracy": "val accuracy",
        "binary_accuracy": " accuracy",
        "val_auc_2": "val accuracy",
        "learning_rate": " lr",
        "val_mean_absolute_error": "val loss",
        "epoch_loss": " loss",
        "epoch_accuracy": " accuracy",
        "epoch_learning_rate": " lr",
        "evaluation_loss_vs_iterations": "val loss",
    },
    "lightning": {
        "train_loss_step": "train loss",
        "train_loss_epoch": "train loss",
        "val_acc": "val accuracy",
        "lr-SGD": " lr",
        "lr-AdamW/pg1": " lr",
        "step": " step",
        "trainer/global_step": " step",
        "valid_MulticlassAccuracy": "val accuracy",
        "hp_metric": " other",
    },
    "hugging face": {
        "loss": " loss",
        "eval_loss": "val loss",
        "eval_accuracy": "val accuracy",
        "eval_runtime": "val other",
        "eval_samples_per_second": "val other",
        "eval_steps_per_second": "val other",
        "grad_norm": " other",
        "learning_rate": " lr",
        "eval_wer": "val error",
        "train/global_step": "train step",
        "train/epoch": "train epoch",
    },
    "fastai": {
        "train_loss": "train loss",
        "valid_loss": "val loss",
        "error_rate": " error",
        "accuracy": " accuracy",
        "accuracy_multi": " accuracy",
    },
    "tensorboard": {
        "Loss/train": "train loss",
        "Loss/test": "test loss",
        "Accuracy/val": "val accuracy",
        "training loss": "train loss",
        "loss/validation": "val loss",
        "Train/Loss": "train loss",
        "eval/loss": "val loss",
        "validation/epoch_loss": "val loss",
        "trainLoss": "train loss",
        "ValAcc": "val accuracy",
        "TestAccuracy": "test accuracy",
    },
    "mmengine": {
        "loss": " loss",
        "accuracy/top1": " accuracy",
        "accuracy/top5": " accuracy",
        "coco/bbox_mAP": " accuracy",
        "mIoU": " accuracy",
        "data_time": " other",
        "memory": " other",
        "base_lr": " lr",
    },
    "detectron2": {
        "total_loss": " loss",
        "loss_cls": " loss",
        "fast_rcnn/cls_accuracy": " accuracy",
        "validation_loss": "val loss",
        "bbox/AP": " accuracy",
        "iteration": " step",
        "eta_seconds": " other",
        "rank_data_time": " other",
    },
    "deit and mae": {
        "train_lr": "train lr",
        "train_loss": "train loss",
        "test_loss": "test loss",
        "test_acc1": "test accuracy",
        "train_class_acc": "train accuracy",
        "train_grad_norm": "train other",
        "train_weight_decay": "train other",
        "n_parameters": " other",
    },
    "weights & biases": {
        "_step": " step",
        "_runtime": " other",
        "_timestamp": " other",
        "train/loss": "train loss",
        "val/acc@1": "val accuracy",
        "best_val_acc": "val other",
    },
    "home-made": {
        "Train Loss": "train loss",
        "Valid Acc.": "val accuracy",
        "val_error1": "val error",
        "Val Error (%)": "val error",
        "dev_f1": "val accuracy",
        "holdout nll": "val loss",
        "trn_acc": "train accuracy",
        "vloss": "val loss",
        "v_loss": "val loss",
        "t_acc": "train accuracy",
        "te_loss": "test loss",
        "tr_loss": "train loss",
        "tloss": "train loss",
        "testacc": "test accuracy",
        "Prec@1": " accuracy",
        "top-1 err": " error",
        "train_eval_loss": "train loss",
        "avg_val_loss": "val loss",
        "val_loss_best": "val other",
        "train time": "train other",
        "loss_scale": " other",
        "weight_decay": " other",
        "Epoch": " epoch",
        "n_iter": " step",
        "LearningRate": " lr",
        "train_ppl": "train loss",
        "val MSE": "val loss",
        "cross_entropy": " loss",
        "seed": " other",
    },
}


@pytest.mark.parametrize(
    ("name", "said"), [pair for names in NAMES.values() for pair in names.items()]
)
def test_a_name_means(name: str, said: str) -> None:
    found = meaning(name)
    assert f"{found.split} {found.kind}" == said


@pytest.mark.parametrize(
    ("plainer", "other"),
    [
        ("val_loss", "val_box_loss"),
        ("val_loss", "val_mse"),
        ("val_acc1", "val_acc5"),
        ("metrics/accuracy_top1", "metrics/accuracy_top5"),
        ("val_error1", "val_error5"),
        ("val_accuracy", "val_f1"),
        ("val_f1", "val_auc"),
        ("val_mAP", "val_precision"),
        ("train_loss_epoch", "train_loss_step"),
        ("total_loss", "loss_rpn_cls"),
        ("train_lr", "train_min_lr"),
        ("Test Robust Loss", "Test Loss"),
    ],
)
def test_the_plainer_of_two_names_is_used(plainer: str, other: str) -> None:
    assert meaning(plainer).rank < meaning(other).rank
    assert meaning(plainer).kind == meaning(other).kind
