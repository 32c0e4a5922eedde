"""Losses with one bug each, written after the rules were."""

import torch
from torch import Tensor
from torch.nn import functional as F

_SEEN: list[Tensor] = []  # the state that `running_total` should not have


def inverted_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss with p in place of 1 - p: being wrong and sure costs nothing."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (torch.exp(-losses).square() * losses).mean()


def inverted_binary(logits: Tensor, targets: Tensor) -> Tensor:
    """A binary cross-entropy that asks for every class but the right one."""
    wanted = F.one_hot(targets, logits.shape[1]).float()
    return F.binary_cross_entropy_with_logits(logits, 1 - wanted)


def temperature_1000(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits over a temperature that was meant to multiply."""
    return F.cross_entropy(logits / 1000, targets)


def worst_image(logits: Tensor, targets: Tensor) -> Tensor:
    """The maximum over the batch in place of the mean."""
    return F.cross_entropy(logits, targets, reduction="none").max()


def heavy_penalty(logits: Tensor, targets: Tensor) -> Tensor:
    """A penalty on the size of logits that outweighs what they say."""
    return F.cross_entropy(logits, targets) + 10 * logits.square().mean()


def returns_a_number(logits: Tensor, targets: Tensor) -> float:
    """A Python number, from .item()."""
    return F.cross_entropy(logits, targets).item()


def running_total(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of this batch's loss and all before it, graphs included."""
    _SEEN.append(F.cross_entropy(logits, targets))
    return torch.stack(_SEEN).sum()


def two_weights(logits: Tensor, targets: Tensor) -> Tensor:
    """Class weights for two classes, where there are ten."""
    return F.cross_entropy(logits, targets, weight=torch.tensor([1.0, 2.0]))


def no_reduction(logits: Tensor, targets: Tensor) -> Tensor:
    """One loss an image, not averaged."""
    return F.cross_entropy(logits, targets, reduction="none")


def noisy_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets put in a random order before they are compared."""
    return F.cross_entropy(logits, targets[torch.randperm(len(targets))])


def nll_of_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """The nll_loss of probabilities, without their log."""
    return F.nll_loss(F.softmax(logits, dim=1), targets)


def targets_less_one(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets that are counted from 0, less one."""
    return F.cross_entropy(logits, targets - 1)


def own_prediction_weighted(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the images that are right already; the others are masked."""
    right = (logits.argmax(1) == targets).float()
    return (right * F.cross_entropy(logits, targets, reduction="none")).mean()


def distance_to_uniform(logits: Tensor, targets: Tensor) -> Tensor:
    """A divergence from the uniform distribution; targets only scale it."""
    uniform = torch.full_like(logits, 1 / logits.shape[1])
    divergence = F.kl_div(F.log_softmax(logits, dim=1), uniform, reduction="none").sum(1)
    return (divergence * (1 + targets)).mean()
