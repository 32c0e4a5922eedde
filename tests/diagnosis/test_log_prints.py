"""Printed lines that a person reads at once and a program easily misreads.

Each log is a few lines written by hand; the right numbers are the ones a reader would name.
"""

from pathlib import Path

import pytest

from cnntune.diagnosis.load_runs import ReadRun, read_paths
from cnntune.diagnosis.logs.cells import decode
from cnntune.diagnosis.logs.names import meaning
from cnntune.errors import DataError


def run_in(folder: Path, content: str, name: str = "train.log") -> ReadRun:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    (run,), _ = read_paths([path])
    return run


@pytest.mark.parametrize(
    ("name", "split", "kind"),
    [
        ("Trainingsverlust", "train", "loss"),
        ("Validierungsgenauigkeit", "val", "accuracy"),
        ("Testfehler", "test", "error"),
        ("Epoche", "", "epoch"),
        ("perte d'entraînement", "train", "loss"),
        ("val_précision", "val", "accuracy"),
        ("val_precision", "val", "accuracy"),
        ("époque", "", "epoch"),
        ("pérdida de validación", "val", "loss"),
        ("perda_treino", "train", "loss"),
        ("acurácia validação", "val", "accuracy"),
        ("perdita validazione", "val", "loss"),
        ("accuratezza", "", "accuracy"),
        ("训练损失", "train", "loss"),
        ("验证集准确率", "val", "accuracy"),
        ("測試損失", "test", "loss"),
        ("学習損失", "train", "loss"),
        ("学習率", "", "lr"),
        ("検証精度", "val", "accuracy"),
        ("エポック", "", "epoch"),
        ("Потери на обучении", "train", "loss"),
        ("Точность на валидации", "val", "accuracy"),
        ("эпоха", "", "epoch"),
        ("meilleure perte", "", "other"),
        ("最佳准确率", "", "other"),
    ],
)
def test_a_name_in_another_language_means(name: str, split: str, kind: str) -> None:
    assert (meaning(name).split, meaning(name).kind) == (split, kind)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("第1轮 训练损失: 0.5\n", "gb18030"),
        ("エポック 1 学習損失 0.5\n", "cp932"),
        ("Эпоха 1 потери 0.5\n", "cp1251"),
        ("Época 1 pérdida 0.5\n", "cp1252"),
    ],
)
def test_an_old_encoding_is_recognised_by_its_words(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_bytes_that_are_neither_utf8_nor_known_words_are_replaced() -> None:
    assert decode("Jürgen loss 0.5\n".encode("cp1252")) == "J\ufffdrgen loss 0.5\n"


def test_an_ordinal_and_full_width_colons_in_chinese(tmp_path: Path) -> None:
    lines = [
        f"第{n}轮 训练损失\uff1a{4 / n} 验证损失\uff1a{5 / n} 验证准确率\uff1a{n}0%"
        for n in (1, 2, 4)
    ]
    run = run_in(tmp_path, "\n".join(lines) + "\n")
    assert run.curve.epochs == [1, 2, 4]
    assert run.curve.train_loss == [4, 2, 1]
    assert run.curve.val_loss == [5, 2.5, 1.25]
    assert run.curve.val_acc == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(
    "line",
    [
        "Époque {n} : perte d'entraînement = {train} ; perte de validation = {val}",
        "第{n}轮, 训练集损失为{train},测试集损失为{val}",
        "エポック {n}/4: 訓練損失 {train}, 検証損失 {val}",
        "Эпоха {n}: потери (обучение): {train}, потери (валидация): {val}",
        "Época {n}/4 - perda_treino: {train} - perda_validação: {val}",
        "Epoche {n}: Trainingsverlust {train}, Validierungsverlust {val}",
        "Epoca {n}: perdita addestramento {train}, perdita validazione {val}",
    ],
)
def test_a_line_in_another_language(line: str, tmp_path: Path) -> None:
    lines = [line.format(n=n, train=4 / n, val=5 / n) for n in (1, 2, 4)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert run.curve.epochs == [1, 2, 4]
    assert (run.curve.train_loss, run.curve.val_loss) == ([4, 2, 1], [5, 2.5, 1.25])


def test_an_accent_in_a_number_does_not_make_another_number(tmp_path: Path) -> None:
    lines = [*(f"epoch {n} loss {4 / n}" for n in (1, 2, 4)), "epoch 5 loss 0.2é9", "end"]
    assert run_in(tmp_path, "\n".join(lines) + "\n").curve.train_loss == [4, 2, 1]


def test_a_csv_in_german_with_decimal_commas(tmp_path: Path) -> None:
    rows = "Epoche;Verlust;Val_Verlust\n1;2,5;3,5\n2;1,5;2,5\n3;1,0;2,0\n"
    run = run_in(tmp_path, rows, "log.csv")
    assert run.curve.train_loss == [2.5, 1.5, 1.0]
    assert run.curve.val_loss == [3.5, 2.5, 2.0]


def test_a_second_loss_that_is_not_understood_is_named_in_a_note(tmp_path: Path) -> None:
    lines = [f"epoch {n} loss north={4 / n} loss south={5 / n}" for n in (1, 2, 4)]
    run = run_in(tmp_path, "\n".join(lines) + "\n")
    assert run.curve.train_loss == [4, 2, 1]
    assert any("'loss south'" in note for note in run.notes)


def test_a_part_of_the_loss_beside_the_whole_needs_no_note(tmp_path: Path) -> None:
    rows = "epoch,loss,loss_box\n1,4,1\n2,2,0.5\n3,1,0.25\n"
    assert run_in(tmp_path, rows, "log.csv").notes == ()


def test_a_summary_of_one_value_does_not_replace_the_curve(tmp_path: Path) -> None:
    lines = [f"Epoch {n}\nLoss: {4 / n}" for n in (1, 2, 4)]
    run = run_in(tmp_path, "\n".join([*lines, "Summary:", "train_loss 1.0", "done"]) + "\n")
    assert run.curve.train_loss == [4, 2, 1]


def test_the_same_numbers_under_two_names_are_not_summed(tmp_path: Path) -> None:
    rows = [
        "epoch,train_a_loss,train_b_loss,val_a_loss,val_b_loss",
        *("1,4,4,5,5", "2,2,2,3,3", "3,1,1,2,2"),
    ]
    run = run_in(tmp_path, "\n".join(rows) + "\n", "log.csv")
    assert run.curve.train_loss == [4, 2, 1]
    assert run.curve.val_loss == [5, 3, 2]


def test_the_validation_set_that_was_chosen_is_named(tmp_path: Path) -> None:
    rows = "epoch,loss,eval_cats_loss,eval_dogs_loss\n1,4,5,6\n2,2,3,4\n3,1,2,3\n"
    run = run_in(tmp_path, rows, "log.csv")
    assert run.curve.val_loss == [5, 3, 2]
    assert "val_loss is 'eval_cats_loss'; also logged: 'eval_dogs_loss'" in run.notes


@pytest.mark.parametrize(
    "names", ["loss_gen,loss_disc", "G_loss,D_loss", "generator/loss,critic/loss"]
)
def test_the_losses_of_a_gan_give_no_curve(names: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"epoch,{names}\n1,4,1\n2,2,2\n3,1,3\n")
    with pytest.raises(DataError, match="a generator and its discriminator"):
        read_paths([tmp_path / "log.csv"])


def test_a_gan_with_a_validation_score_is_judged_by_it(tmp_path: Path) -> None:
    rows = "epoch,g_loss,d_loss,val_acc\n1,4,1,0.5\n2,2,2,0.75\n3,1,3,1\n"
    run = run_in(tmp_path, rows, "log.csv")
    assert (run.curve.train_loss, run.curve.val_acc) == ((), [0.5, 0.75, 1.0])


def test_a_loss_of_dimensions_is_not_that_of_a_gan(tmp_path: Path) -> None:
    rows = "epoch,loss_2d,loss_3d\n1,4,8\n2,2,4\n3,1,2\n"
    assert run_in(tmp_path, rows, "log.csv").curve.train_loss == [4, 2, 1]


def test_a_signed_number_in_brackets_is_a_change(tmp_path: Path) -> None:
    lines = [
        *("Epoch 1", "val_loss: 4.0 (+0.0)", "Epoch 2", "val_loss: 2.5 (-1.5)"),
        *("Epoch 3", "val_loss: 3.0 (+0.5)", "done"),
    ]
    run = run_in(tmp_path, "\n".join(lines) + "\n")
    assert run.curve.val_loss == [4.0, 2.5, 3.0]


def test_a_negative_mean_of_negative_losses_is_a_mean(tmp_path: Path) -> None:
    lines = [f"Epoch: [{n}][9/10] Loss -0.5 (-0.{n})" for n in (1, 2, 3)]
    assert run_in(tmp_path, "\n".join([*lines, "end"]) + "\n").curve.train_loss == [
        -0.1,
        -0.2,
        -0.3,
    ]


@pytest.mark.parametrize(
    "line",
    [
        "===== Training Loss (Thu Oct 31 10:00:00 2024) =====",
        "Test loss decreased (inf --> 9.5). Saving model ...",
        "val loss did not improve, saving nothing: 9.5 -> 9.0",
        "trainer: mode=train, epochs=10, optimizer=SGD, iou=0.5, val_loss=9.5",
        "params: iou loss: mse (9), iou_norm: 0.5",
        "self.loss = nn.CrossEntropyLoss(label_smoothing=9.5)",
        "    val_loss += 9.5",
        'print("val loss", 9.5)',
        "best epoch: 2, val loss 9.5",
        "interp.plot_top_losses(9, figsize=(15, 11))",
        "PRED SCORE: -9.5",
    ],
)
def test_a_line_without_a_result_is_not_read(line: str, tmp_path: Path) -> None:
    lines = [f"epoch {n} loss {4 / n}\n{line}" for n in (1, 2, 4)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert run.curve.train_loss == [4, 2, 1]
    assert not any((*run.curve.val_loss, *run.curve.val_acc))


def test_two_counts_in_brackets_are_an_epoch_and_a_step(tmp_path: Path) -> None:
    lines = [f"[{n}/9], [{step}/2], loss: {n + step}" for n in (1, 2, 3) for step in (1, 2)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert run.curve.epochs == [1, 2, 3]
    assert run.curve.train_loss == [2.5, 3.5, 4.5]


def test_the_steps_of_one_epoch_are_not_epochs(tmp_path: Path) -> None:
    lines = [f"Epoch [6/6], Step [{step}/40], Loss: {step}.0" for step in (10, 20, 30, 40)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert (run.curve.epochs, run.curve.train_loss) == ([6], [25])


def test_values_before_their_names(tmp_path: Path) -> None:
    lines = [f"Epoch {n} @ 10:0{n} PM : {4 / n} C.E. Loss, {n}0.0% Accuracy" for n in (1, 2, 4)]
    run = run_in(tmp_path, "\n".join(lines) + "\n")
    assert run.curve.train_loss == [4, 2, 1]
    assert run.curve.train_acc == [0.1, 0.2, 0.4]


def test_a_split_after_a_value_is_that_of_its_own_name(tmp_path: Path) -> None:
    lines = [f"{n} | {4 / n} loss | {5 / n} val loss" for n in (1, 2, 4)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert (run.curve.train_loss, run.curve.val_loss) == ([4, 2, 1], [5, 2.5, 1.25])


def test_a_name_before_its_epoch(tmp_path: Path) -> None:
    lines = [f"Loss after epoch {n}: {4 / n}" for n in (1, 2, 4)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert (run.curve.epochs, run.curve.train_loss) == ([1, 2, 4], [4, 2, 1])


def test_a_total_beside_the_epoch_is_the_loss(tmp_path: Path) -> None:
    lines = [f"[epoch: {n}/9, iter: 5/5] total: {4 / n} " for n in (1, 2, 4)]
    assert run_in(tmp_path, "\n".join([*lines, "end"]) + "\n").curve.train_loss == [4, 2, 1]


def test_a_total_time_is_not_the_loss(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("".join(f"epoch {n}, total: 9.5 s\n" for n in (1, 2, 3)))
    with pytest.raises(DataError):
        read_paths([tmp_path / "a.log"])


def test_a_zero_before_the_first_loss_is_a_placeholder(tmp_path: Path) -> None:
    rows = "epoch,loss\n" + "".join(f"{n},{n and 8 - n}\n" for n in range(6))
    run = run_in(tmp_path, rows, "log.csv")
    assert (run.curve.epochs, run.curve.train_loss) == ([1, 2, 3, 4, 5], [7, 6, 5, 4, 3])
    assert "skipped 1 zero(s) at the start of 'loss': taken for placeholders" in run.notes


def test_a_validation_loss_that_is_always_zero_was_not_measured(tmp_path: Path) -> None:
    rows = "epoch,train_loss,val_loss\n1,4,0\n2,2,0\n3,1,0\n"
    run = run_in(tmp_path, rows, "log.csv")
    assert run.curve.val_loss == ()
    assert "skipped 'val_loss': it is always 0, so it was not measured" in run.notes


def test_losses_that_are_all_zero_are_values(tmp_path: Path) -> None:
    rows = "epoch,train_loss,val_loss\n1,0,0\n2,0,0\n3,0,0\n"
    assert run_in(tmp_path, rows, "log.csv").curve.val_loss == [0, 0, 0]


def test_a_train_loss_rounded_to_zero_is_a_value(tmp_path: Path) -> None:
    rows = "epoch,train_loss,val_loss\n1,0.00,4\n2,0.00,5\n3,0.00,6\n"
    assert run_in(tmp_path, rows, "log.csv").curve.train_loss == [0, 0, 0]


@pytest.mark.parametrize(
    "name", ["R2", "R²", "R^2", "val_r2_score", "BLEU", "kappa", "mIoU", "AUC", "Dice"]
)
def test_a_score_is_better_when_higher(name: str) -> None:
    assert meaning(name).kind == "accuracy"


def test_a_score_far_from_an_accuracy_is_used_where_there_is_no_validation_loss(
    tmp_path: Path,
) -> None:
    rows = "epoch,loss,val_loss,val_r2\n1,4,5,-0.5\n2,2,3,0.25\n3,1,2,0.5\n"
    assert run_in(tmp_path, rows, "with.csv").curve.val_acc == ()
    rows = "epoch,loss,val_r2\n1,4,-0.5\n2,2,0.25\n3,1,0.5\n"
    assert run_in(tmp_path, rows, "without.csv").curve.val_acc == [-0.5, 0.25, 0.5]


def test_a_bracketed_tag_holds_for_its_own_line(tmp_path: Path) -> None:
    lines = [
        f"[valid] Ep. {n} : cost-mean : {5 / n}\n[valid] saving the validation set\n"
        f"Ep. {n} : Cost {4 / n}"
        for n in (1, 2, 4)
    ]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert run.curve.train_loss == [4, 2, 1]
    assert run.curve.val_loss == [5, 2.5, 1.25]


def test_the_level_of_a_logger_is_not_such_a_tag(tmp_path: Path) -> None:
    lines = [
        f"[INFO] Epoch {n}\n[INFO] Training\n[INFO] loss: {4 / n}\n"
        f"[INFO] Validation\n[INFO] loss: {5 / n}"
        for n in (1, 2, 4)
    ]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert (run.curve.train_loss, run.curve.val_loss) == ([4, 2, 1], [5, 2.5, 1.25])


def test_a_tag_alone_in_a_line_is_a_heading(tmp_path: Path) -> None:
    lines = [f"Epoch {n}\n[Train]\nloss: {4 / n}\n[Val]\nloss: {5 / n}" for n in (1, 2, 4)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert (run.curve.train_loss, run.curve.val_loss) == ([4, 2, 1], [5, 2.5, 1.25])


def test_an_abbreviated_split_applies_to_the_next_name(tmp_path: Path) -> None:
    lines = [
        f"Epoch: {n} | {split}. Acc.: {n}0.00% | Loss: {top / n}"
        for n in (1, 2, 4)
        for split, top in (("Train", 4), ("Test", 5))
    ]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert (run.curve.train_loss, run.curve.val_loss) == ([4, 2, 1], [5, 2.5, 1.25])


def test_a_line_printed_twice_per_epoch_is_of_two_splits(tmp_path: Path) -> None:
    lines = [f"epoch: {n}, loss is: {top / n}" for n in (1, 2, 4) for top in (4, 5)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert (run.curve.train_loss, run.curve.val_loss) == ([4, 2, 1], [5, 2.5, 1.25])
    assert any("printed twice per epoch" in note for note in run.notes)


def test_a_line_that_a_logger_repeats_is_of_one_split(tmp_path: Path) -> None:
    lines = [f"epoch: {n}, loss is: {4 / n}" for n in (1, 2, 4) for _ in range(2)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert (run.curve.train_loss, run.curve.val_loss) == ([4, 2, 1], ())


def test_two_prints_per_epoch_that_count_batches_are_of_one_split(tmp_path: Path) -> None:
    lines = [f"epoch: {n} batch {b} loss: {b}.0" for n in (1, 2, 3) for b in (100, 200)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert (run.curve.train_loss, run.curve.val_loss) == ([150, 150, 150], ())


def test_an_epoch_without_validation_is_the_mean_of_its_batches(tmp_path: Path) -> None:
    rows = "epoch,batch,loss\n" + "".join(
        f"{epoch},{batch},{epoch + batch}\n" for epoch in (1, 2, 3) for batch in (0, 1, 2)
    )
    assert run_in(tmp_path, rows, "log.csv").curve.train_loss == [2, 3, 4]


@pytest.mark.parametrize("back", ["\r", "\b" * 30])
def test_the_last_running_mean_of_a_progress_bar_is_that_of_the_epoch(
    back: str, tmp_path: Path
) -> None:
    lines = [
        f"Epoch {n}/4\n"
        + back.join(f"{i}/3 [==>..] - ETA: 1s - loss: {4 / n + 3 - i}" for i in (1, 2, 3))
        for n in (1, 2, 4)
    ]
    assert run_in(tmp_path, "\n".join([*lines, "end"]) + "\n").curve.train_loss == [4, 2, 1]


def test_prints_without_a_count_are_spread_over_the_evaluations(tmp_path: Path) -> None:
    lines = []
    for n in (1, 2, 4):
        lines += [f"train mean loss: {4 / n + more}" for more in (1, 0, -0.5, -0.5)]
        lines.append(f"eval mean loss: {5 / n}")
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert (run.curve.train_loss, run.curve.val_loss) == ([4, 2, 1], [5, 2.5, 1.25])


def test_later_evaluations_of_earlier_epochs_do_not_resume_the_run(tmp_path: Path) -> None:
    trained = [f"epoch: {n}, AUC: 0.{n}, loss: {4 / n}" for n in (1, 2, 4)]
    run = run_in(
        tmp_path, "\n".join([*trained, "epoch: 2, AUC: 0.9", "epoch: 3, AUC: 0.9"]) + "\nend\n"
    )
    assert (run.curve.epochs, run.curve.train_loss) == ([1, 2, 4], [4, 2, 1])
    assert run.curve.train_acc == [0.1, 0.2, 0.4]
    assert any("evaluations of earlier epochs" in note for note in run.notes)


def test_a_run_that_trains_again_is_resumed(tmp_path: Path) -> None:
    lines = [f"epoch: {n}, AUC: 0.{n}, loss: {8 - n}.0" for n in (1, 2, 3, 4, 3, 4)]
    run = run_in(tmp_path, "\n".join([*lines, "end"]) + "\n")
    assert run.curve.epochs == [1, 2, 3, 4]
    assert any("resumed at epoch 3" in note for note in run.notes)


def test_many_values_at_one_step_do_not_make_the_grid(tmp_path: Path) -> None:
    lines = [f"Step {n}0/40; loss: {4 / n}" for n in (1, 2, 4)]
    tests = [f"sentence {n}: test accuracy: 0.5" for n in range(9)]
    run = run_in(tmp_path, "\n".join([*lines, *tests, "end"]) + "\n")
    assert (run.curve.epochs, run.curve.train_loss) == ([10, 20, 40], [4, 2, 1])
