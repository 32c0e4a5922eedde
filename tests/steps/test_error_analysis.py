"""What a network gets wrong, on predictions that were computed by hand."""

import pytest
import torch

from cnntune.steps.error_analysis import ErrorAnalysis


def analysis(probabilities: list[list[float]], labels: list[int]) -> ErrorAnalysis:
    """Of classes a, b, ... and images 0, 1, ..."""
    return ErrorAnalysis(
        log_probs=torch.tensor(probabilities).log(),
        labels=torch.tensor(labels),
        classes=tuple("abcdefgh"[: len(probabilities[0])]),
        images=[str(index) for index in range(len(labels))],
        views={"one": 1.0},
    )


def certain(predicted: list[int], labels: list[int], classes: int) -> ErrorAnalysis:
    """Predictions with a probability of 0.9, the rest shared by the other classes."""
    rest = 0.1 / (classes - 1)
    rows = [[0.9 if column == one else rest for column in range(classes)] for one in predicted]
    return analysis(rows, labels)


def test_a_confusion_matrix_has_labels_in_rows_and_predictions_in_columns() -> None:
    found = certain([0, 1, 1, 2, 0], [0, 0, 0, 2, 2], classes=3)
    assert found.confusion.tolist() == [[1, 2, 0], [0, 0, 0], [1, 0, 1]]
    assert found.accuracy == pytest.approx(2 / 5)
    assert found.pairs() == [
        {"label": "a", "predicted": "b", "images": 2},
        {"label": "c", "predicted": "a", "images": 1},
    ]


def test_an_accuracy_per_class_has_the_interval_of_wilson() -> None:
    found = certain([0] * 8 + [1] * 2, [0] * 10, classes=2)
    first, second = found.per_class()
    # 8 of 10: 0.490 to 0.943 (Brown, Cai and DasGupta 2001, by the formula with z = 1.96)
    assert first.accuracy == pytest.approx(0.8)
    assert first.interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert first.taken_for == "b"
    assert (second.images, second.accuracy, second.interval) == (0, None, None)


def test_a_class_without_mistakes_is_taken_for_nothing() -> None:
    assert certain([0, 0, 1], [0, 0, 0], classes=2).per_class()[0].taken_for == "b"
    assert certain([0, 0, 0], [0, 0, 0], classes=2).per_class()[0].taken_for is None


def test_the_calibration_error_is_the_distance_of_accuracy_and_probability_over_bins() -> None:
    # 0.8 lies in the bin (11/15, 12/15], with 3 of 4 right; 0.6 in (8/15, 9/15], 0 of 1 right
    rows = [[0.8, 0.2]] * 4 + [[0.6, 0.4]]
    found = analysis(rows, [0, 0, 0, 1, 1])
    assert [(bin.images, round(bin.accuracy, 2)) for bin in found.bins()] == [(1, 0), (4, 0.75)]
    assert found.calibration_error() == pytest.approx((4 * 0.05 + 1 * 0.6) / 5)
    assert found.overconfidence() == pytest.approx((4 * 0.8 + 0.6) / 5 - 3 / 5)


def test_the_most_confident_mistakes_come_first() -> None:
    rows = [[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]
    assert analysis(rows, [1, 1, 1, 1]).mistakes.tolist() == [1, 2, 0]


def test_a_label_is_suspected_where_another_class_reaches_its_own_mean_probability() -> None:
    # Class b has a mean probability of (0.9 + 0.7 + 0.8) / 3 = 0.8 on its images. Image 0 reaches
    # it with the label a; image 1 is a mistake, too, but with 0.6 below it.
    rows = [[0.1, 0.9], [0.4, 0.6], [0.8, 0.2], [0.9, 0.1], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]]
    found = analysis(rows, [0, 0, 0, 0, 1, 1, 1])
    assert found.mistakes.tolist() == [0, 1]
    assert found.suspected.tolist() == [0]
    (shown,) = found.as_json()["suspected"]
    assert (shown["image"], shown["label"], shown["predicted"]) == ("0", "a", "b")


def test_a_network_that_errs_on_nothing_suspects_nothing() -> None:
    found = certain([0, 1, 2], [0, 1, 2], classes=3)
    assert found.mistakes.tolist() == found.suspected.tolist() == []
    assert found.as_json()["suspected"] == []


def test_a_matrix_of_many_classes_is_left_out() -> None:
    found = ErrorAnalysis(
        torch.eye(101).mul(5).log_softmax(1),
        torch.arange(101),
        tuple(map(str, range(101))),
        [str(index) for index in range(101)],
        {"one": 1.0},
    )
    assert found.as_json()["confusion"] is None
