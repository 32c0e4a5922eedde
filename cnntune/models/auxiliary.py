"""Auxiliary heads: how their logits reach the loss.

In train mode GoogLeNet and Inception v3 also classify from the middle of the network, to shorten
the path of the gradient to the first layers. Their output is still one tensor, the logits `[N, C]`,
with the auxiliary logits attached as an attribute, which a loss made by `with_auxiliary` reads. So
the training loop, `sanity` and custom losses need not handle them.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Loss = Callable[[Tensor, Any], Tensor]

AUXILIARY_WEIGHT = 0.3  # of each auxiliary loss (Szegedy et al. 2015, section 5)
ATTRIBUTE = "auxiliary_logits"


def carry_auxiliary(_model: nn.Module, _inputs: Any, outputs: Any) -> Tensor:
    """A forward hook: the first of several outputs, with the others attached to it.

    In torchvision's named tuples the logits come first.
    """
    if isinstance(outputs, Tensor):
        return outputs
    logits: Tensor = outputs[0]
    setattr(logits, ATTRIBUTE, tuple(head for head in outputs[1:] if head is not None))
    return logits


def with_auxiliary(loss: Loss) -> Loss:
    """`loss`, plus 0.3 times that of each auxiliary head whose logits are attached."""

    def total(logits: Tensor, targets: Any) -> Tensor:
        heads = getattr(logits, ATTRIBUTE, ())
        return sum(
            (AUXILIARY_WEIGHT * loss(head, targets) for head in heads), loss(logits, targets)
        )

    return total
