"""Loss and accuracy of a network on a training, validation or test set, measured alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


@torch.no_grad()
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
    was_training = model.training
    model.eval()
    loss_sum: Tensor | float = 0.0
    right: Tensor | float = 0.0
    for inputs, labels in part.batches(order, eval_batch(part)):
        with autocast(precision, inputs.device):
            logits = _averaged(model, inputs, views) if views else model(inputs).float()
        loss_sum = loss_sum + F.cross_entropy(logits, labels, reduction="sum")
        right = right + (logits.argmax(1) == labels).sum()
    model.train(was_training)
    return Score(float(loss_sum) / len(order), float(right) / len(order))


def _averaged(model: nn.Module, inputs: Tensor, views: Sequence[View]) -> Tensor:
    """The logarithm of the mean probabilities `[B, classes]`, which serve as logits."""
    logs = [model(view(inputs)).float().log_softmax(1) for view in views]
    return torch.stack(logs).logsumexp(0) - math.log(len(views))


def eval_batch(part: Part) -> int:
    """Images in a batch that needs no gradient."""
    height, width = part.image_size
    return max(1, min(MAX_BATCH, MAX_PIXELS // (height * width)))
