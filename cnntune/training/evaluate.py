"""Loss, accuracy and predictions of a network on a set of images, measured alike."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.data import Part
from cnntune.training.precision import autocast
from cnntune.training.tta import View

MAX_PIXELS = 2**20  # per evaluation batch: 1,024 images of 32x32, 20 of 224x224
MAX_BATCH = 1024  # images


@dataclass(frozen=True)
class Score:
    """`loss` is the mean cross-entropy in nats, `acc` the share of correct predictions, 0..1."""

    loss: float
    acc: float


def evaluate(
    model: nn.Module,
    part: Part,
    indices: Tensor | None = None,
    *,
    views: Sequence[View] = (),
    precision: str = "float32",
) -> Score:
    """Score `model` in eval mode, without augmentation, on all images or on those at `indices`.

    With several `views` of an image, their probabilities are averaged (Krizhevsky et al. 2012,
    section 4.1). The model is put back into the mode that it was in.
    """
    order = torch.arange(len(part)) if indices is None else indices
    loss_sum: Tensor | float = 0.0
    right: Tensor | float = 0.0
    for logits, labels in _logits(model, part, order, views, precision):
        loss_sum = loss_sum + F.cross_entropy(logits, labels, reduction="sum")
        right = right + (logits.argmax(1) == labels).sum()
    return Score(float(loss_sum) / len(order), float(right) / len(order))


def predict(
    model: nn.Module,
    part: Part,
    indices: Tensor | None = None,
    *,
    views: Sequence[View] = (),
    precision: str = "float32",
) -> Tensor:
    """The logarithms of the probabilities `[N, classes]`, on the CPU, as `evaluate` scores them."""
    order = torch.arange(len(part)) if indices is None else indices
    found = [logits.log_softmax(1) for logits, _ in _logits(model, part, order, views, precision)]
    return torch.cat(found).cpu()


def _logits(
    model: nn.Module, part: Part, order: Tensor, views: Sequence[View], precision: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits float32 `[B, classes]` and labels `[B]` of the images in `order`, batch by batch."""
    was_training = model.training
    model.eval()
    for inputs, labels in part.batches(order, eval_batch(part)):
        with torch.no_grad(), autocast(precision, inputs.device):
            logits = averaged(model, inputs, views)
        yield logits, labels
    model.train(was_training)


def averaged(model: nn.Module, inputs: Tensor, views: Sequence[View]) -> Tensor:
    """Logits `[B, classes]`; with several views the logarithm of their mean probabilities."""
    if not views:
        return cast("Tensor", model(inputs)).float()
    logs = [model(view(inputs)).float().log_softmax(1) for view in views]
    return torch.stack(logs).logsumexp(0) - math.log(len(views))


def eval_batch(part: Part) -> int:
    """Images in a batch that needs no gradient."""
    return images_per_batch(part.image_size)


def images_per_batch(size: tuple[int, int]) -> int:
    """How many images of (height, width) are evaluated at once."""
    height, width = size
    return max(1, min(MAX_BATCH, MAX_PIXELS // (height * width)))
