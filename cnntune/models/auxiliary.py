"""Auxiliary heads: how their logits reach the loss.

In train mode GoogLeNet and Inception v3 classify from the middle of the network too, so that the
gradient has a shorter way to the first layers. What they return stays one tensor, the logits
`[N, C]`; the auxiliary ones ride on it as an attribute, and a loss made by `with_auxiliary` looks
there. So the training loop, the checks and losses of the user's own need not know of them.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Loss = Callable[[Tensor, Any], Tensor]

AUXILIARY_WEIGHT = 0.3  # of each auxiliary loss (Szegedy et al. 2015, section 5)
ATTRIBUTE = "auxiliary_logits"


def carry_auxiliary(_model: nn.Module, _inputs: Any, outputs: Any) -> Tensor:
    """A forward hook: the first of several outputs, with the others riding on it.

    torchvision's named tuples have the logits first.
    """
    if isinstance(outputs, Tensor):
        return outputs
    logits: Tensor = outputs[0]
    setattr(logits, ATTRIBUTE, tuple(head for head in outputs[1:] if head is not None))
    return logits


def with_auxiliary(loss: Loss) -> Loss:
    """`loss`, plus 0.3 of it for each auxiliary head that the logits carry."""

    def total(logits: Tensor, targets: Any) -> Tensor:
        heads = getattr(logits, ATTRIBUTE, ())
        return sum(
            (AUXILIARY_WEIGHT * loss(head, targets) for head in heads), loss(logits, targets)
        )

    return total
