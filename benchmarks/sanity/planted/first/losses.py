"""Losses with one bug each; the docstring names the bug."""

import torch
from torch import Tensor
from torch.nn import functional as F


def summed(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum over the batch in place of the mean."""
    return F.cross_entropy(logits, targets, reduction="sum")


def negated(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-probability itself, without the minus."""
    return F.log_softmax(logits, dim=1).gather(1, targets[:, None]).mean()


def ignores_targets(logits: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001
    """Compared with the network's own predictions, which makes it sure of anything."""
    return F.cross_entropy(logits, logits.argmax(1))


def entropy_alone(logits: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001
    """The entropy of the prediction, an idea of a regulariser, without the cross-entropy."""
    probabilities = F.softmax(logits, dim=1)
    return -(probabilities * F.log_softmax(logits, dim=1)).sum(1).mean()


def overwritten_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets replaced by zeros of the same shape: every image is of class 0."""
    return F.cross_entropy(logits, torch.zeros_like(targets))


def nll_on_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """nll_loss, which wants log-probabilities, on logits: without bound below."""
    return F.nll_loss(logits, targets)


def double_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """A softmax inside, before the cross-entropy's own."""
    return F.cross_entropy(F.softmax(logits, dim=1), targets)


def sigmoid_first(logits: Tensor, targets: Tensor) -> Tensor:
    """A sigmoid before the cross-entropy."""
    return F.cross_entropy(torch.sigmoid(logits), targets)


def rolled_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """Each image compared with its neighbour's target."""
    return F.cross_entropy(logits, targets.roll(1))


def sorted_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets sorted by class, images left in their order."""
    return F.cross_entropy(logits, targets.sort().values)


def shifted_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets counted from 1: each class trained as the next one."""
    return F.cross_entropy(logits, (targets + 1) % logits.shape[1])


def detached(logits: Tensor, targets: Tensor) -> Tensor:
    """The number alone, made a tensor again so that backward runs."""
    value = F.cross_entropy(logits, targets).item()
    return torch.tensor(value, device=logits.device, requires_grad=True)


def constant(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy times a weight that is zero."""
    return 0.0 * F.cross_entropy(logits, targets)


def one_minus_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """The error rate, which has no gradient."""
    wrong = (logits.argmax(1) != targets).float().mean()
    return wrong + 0 * logits.sum()


def squared_error_of_class_numbers(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared difference between the first logit and the number of the class."""
    return F.mse_loss(logits[:, 0], targets.float())


def squared_error_of_class_numbers_in_all_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Every logit is asked to be the number of the class."""
    return F.mse_loss(logits, targets[:, None].float().expand_as(logits))


def wrong_axis(logits: Tensor, targets: Tensor) -> Tensor:
    """log_softmax over the batch in place of the classes."""
    return F.nll_loss(F.log_softmax(logits, dim=0), targets)


def times_1000(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean, multiplied by 1000: a loss on the wrong scale."""
    return 1000 * F.cross_entropy(logits, targets)


def divided_twice(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean, divided by the batch and by the classes once more."""
    return F.cross_entropy(logits, targets) / logits.numel()


def half_the_classes(logits: Tensor, targets: Tensor) -> Tensor:
    """Class weights that are zero for half of the classes."""
    weight = (torch.arange(logits.shape[1], device=logits.device) % 2).float()
    return F.cross_entropy(logits, targets, weight=weight)


def first_image_only(logits: Tensor, targets: Tensor) -> Tensor:
    """Only the first image of each batch counts."""
    return F.cross_entropy(logits[:1], targets[:1])


def log_of_zero(logits: Tensor, targets: Tensor) -> Tensor:
    """The log of probabilities that were rounded to two places: often of zero."""
    probabilities = F.softmax(logits, dim=1)
    rounded = probabilities + ((100 * probabilities).floor() / 100 - probabilities).detach()
    return -rounded.gather(1, targets[:, None]).log().mean()


def ignores_most(logits: Tensor, targets: Tensor) -> Tensor:
    """ignore_index of a class that exists: class 0 is never trained."""
    return F.cross_entropy(logits, targets, ignore_index=0)
