"""Losses with one bug each, as a tester would plant them."""

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_of_logits_over_images(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits averaged over the batch before they are compared."""
    return F.cross_entropy(logits.mean(0, keepdim=True).expand_as(logits), targets)


def weighted_by_place(logits: Tensor, targets: Tensor) -> Tensor:
    """Each image's loss times its place in the batch: a loop variable used as a weight."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (losses * torch.arange(len(losses), device=losses.device)).mean()


def targets_reversed(logits: Tensor, targets: Tensor) -> Tensor:
    """Classes counted from the end."""
    return F.cross_entropy(logits, logits.shape[1] - 1 - targets)


def temperature_of_a_thousandth(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits over a temperature of 0.001."""
    return F.cross_entropy(logits / 1e-3, targets)


def epsilon_of_one(logits: Tensor, targets: Tensor) -> Tensor:
    """The log of probabilities plus an epsilon of 1."""
    right = F.softmax(logits, dim=1).gather(1, targets[:, None])
    return -(right + 1).log().mean()


def easiest_images(logits: Tensor, targets: Tensor) -> Tensor:
    """Hard examples to be mined, and the easiest quarter taken."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses.topk(max(1, len(losses) // 4), largest=False).values.mean()


def penalty_with_wrong_sign(logits: Tensor, targets: Tensor) -> Tensor:
    """A penalty on large logits that is subtracted."""
    return F.cross_entropy(logits, targets) - 0.5 * logits.square().mean()


def clamped_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Probabilities clamped to at least 0.5 before the log: no gradient where it is needed."""
    right = F.softmax(logits, dim=1).gather(1, targets[:, None])
    return -right.clamp(min=0.5).log().mean()
