"""Losses with one bug each, of the kind that people post about."""

import torch
from torch import Tensor
from torch.nn import functional as F


def binary_of_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """binary_cross_entropy_with_logits on probabilities."""
    wanted = F.one_hot(targets, logits.shape[1]).float()
    return F.binary_cross_entropy_with_logits(F.softmax(logits, dim=1), wanted)


def divergence_swapped(logits: Tensor, targets: Tensor) -> Tensor:
    """kl_div with input and target the wrong way round."""
    wanted = F.one_hot(targets, logits.shape[1]).float()
    return F.kl_div(wanted, F.log_softmax(logits, dim=1), reduction="batchmean")


def weight_of_one_class_zero(logits: Tensor, targets: Tensor) -> Tensor:
    """Class weights with a zero among them."""
    weight = torch.ones(logits.shape[1], device=logits.device)
    weight[3] = 0
    return F.cross_entropy(logits, targets, weight=weight)


def hinge_with_wrong_sign(logits: Tensor, targets: Tensor) -> Tensor:
    """A hinge that asks the right class to lie below the others."""
    right = logits.gather(1, targets[:, None])
    return F.relu(right - logits + 1).mean()


def nll_of_log_sigmoid(logits: Tensor, targets: Tensor) -> Tensor:
    """nll_loss of logsigmoid: the wrong classes cost nothing, all logits rise."""
    return F.nll_loss(F.logsigmoid(logits), targets)


def summed_then_divided_by_classes(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum over the batch, divided by the number of classes."""
    return F.cross_entropy(logits, targets, reduction="sum") / logits.shape[1]


def softmax_of_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """A softmax of the one-hot targets as well: the right class is asked for 23 %."""
    wanted = F.softmax(F.one_hot(targets, logits.shape[1]).float(), dim=1)
    return F.cross_entropy(logits, wanted)


def clamped_from_above(logits: Tensor, targets: Tensor) -> Tensor:
    """Each image's loss clamped to 1, against outliers: none below it at the start."""
    return F.cross_entropy(logits, targets, reduction="none").clamp(max=1).mean()


def reshaped_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits turned over by a reshape to [C, N] and back: images and classes mixed."""
    return F.cross_entropy(logits.reshape(logits.shape[1], -1).T, targets)


def one_hot_of_the_prediction(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared error between the rounded prediction and the target: no gradient."""
    predicted = F.one_hot(logits.argmax(1), logits.shape[1]).float().requires_grad_()
    return F.mse_loss(predicted, F.one_hot(targets, logits.shape[1]).float())
