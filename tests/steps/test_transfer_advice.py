"""The lecture's rule of two questions: how much data, and how near to what was learned before."""

import pytest
import torch

from cnntune.steps.inspect.transfer_advice import advise, transfer_finding
from cnntune.training.build import load_data
from cnntune.training.open_recipe import load_recipe


@pytest.mark.parametrize(
    ("images", "similar", "told"),
    [
        (10, True, "train only the head"),
        (10, False, "weights from more similar images"),
        (5000, True, "train.backbone_lr=0.1: fine-tune all layers"),
        (5000, False, "fine-tune all layers at the full learning rate"),
    ],
)
def test_there_are_four_answers(images: float, similar: bool, told: str) -> None:
    finding = advise(images, similar=similar)
    assert finding.severity == "info"
    assert told in finding.advice


def test_small_grey_images_are_unlike_photographs() -> None:
    data = load_data(load_recipe("digits", ["data.per_class=5"]), torch.device("cpu"))
    finding = transfer_finding(data)
    assert "5 training images per class (little)" in finding.evidence
    assert "unlike the photographs of ImageNet (8x8 pixels, 1 channel(s))" in finding.evidence


def test_large_colour_images_are_like_photographs() -> None:
    recipe = load_recipe("shapes", ["data.size=40", "data.image_size=64"])
    finding = transfer_finding(load_data(recipe, torch.device("cpu")))
    assert "like photographs (64x64 pixels, colour)" in finding.evidence
    assert "model.weights=imagenet" in finding.advice
