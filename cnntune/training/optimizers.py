"""SGD, Adam and AdamW, each a few operations over lists of tensors.

They compute what `torch.optim` computes. The optimizers there import torch's compiler at their
first use, which takes longer than training a small network (`docs/performance.md`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)  # Kingma and Ba 2015, algorithm 1, like EPSILON
EPSILON = 1e-8

Group = dict[str, Any]  # params, lr, weight_decay, and what the owner adds
Memory = dict[str, Any]  # state of one parameter: tensors of its shape, and a count of steps


class Optimizer(ABC):
    """Updates parameters by their gradients; a parameter without a gradient stays as it is.

    A group is a dict with `params`, `lr` and `weight_decay`, which may be changed between steps.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.param_groups = list(groups)
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self._memories: dict[nn.Parameter, Memory] = {}

    def zero_grad(self) -> None:
        """Set the gradients to None."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update each parameter once."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters]
            memories = [self._memories.setdefault(p, {}) for p in parameters]
            self._update(parameters, gradients, memories, group["lr"], group["weight_decay"])

    @abstractmethod
    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        memories: list[Memory],
        lr: float,
        weight_decay: float,
    ) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """Learning rates and the state per parameter, in the order of the parameters."""
        return {
            "lr": [group["lr"] for group in self.param_groups],
            "memories": [self._memories.get(p, {}) for p in self.parameters],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; tensors move to the device of their parameter."""
        for group, lr in zip(self.param_groups, state["lr"], strict=True):
            group["lr"] = lr
        for parameter, memory in zip(self.parameters, state["memories"], strict=True):
            self._memories[parameter] = {
                key: value.to(parameter.device) if isinstance(value, Tensor) else value
                for key, value in memory.items()
            }


class SGD(Optimizer):
    """Stochastic gradient descent; the velocity is a sum of gradients, as in `torch.optim.SGD`."""

    def __init__(self, groups: Sequence[Group], momentum: float) -> None:
        super().__init__(groups)
        self.momentum = momentum

    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        memories: list[Memory],
        lr: float,
        weight_decay: float,
    ) -> None:
        if weight_decay:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=weight_decay))
        if self.momentum:
            velocities = _remembered("velocity", memories, parameters)
            torch._foreach_mul_(velocities, self.momentum)
            torch._foreach_add_(velocities, gradients)
            gradients = velocities
        torch._foreach_add_(parameters, gradients, alpha=-lr)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient."""

    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        memories: list[Memory],
        lr: float,
        weight_decay: float,
    ) -> None:
        if weight_decay:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=weight_decay))
        means = _remembered("mean", memories, parameters)
        squares = _remembered("square", memories, parameters)
        torch._foreach_lerp_(means, gradients, 1 - BETAS[0])
        torch._foreach_mul_(squares, BETAS[1])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - BETAS[1])
        for memory in memories:  # one by one: parameters may join later, such as unfrozen ones
            memory["steps"] = memory.get("steps", 0) + 1
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, [math.sqrt(1 - BETAS[1] ** m["steps"]) for m in memories])
        torch._foreach_add_(roots, EPSILON)
        sizes = [-lr / (1 - BETAS[0] ** memory["steps"]) for memory in memories]
        torch._foreach_addcdiv_(parameters, means, roots, sizes)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        memories: list[Memory],
        lr: float,
        weight_decay: float,
    ) -> None:
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        super()._update(parameters, gradients, memories, lr, 0.0)


def _remembered(
    name: str, memories: Sequence[Memory], parameters: Sequence[Tensor]
) -> list[Tensor]:
    """The state tensors of that name; zeros for new parameters."""
    for memory, parameter in zip(memories, parameters, strict=True):
        if name not in memory:
            memory[name] = torch.zeros_like(parameter)
    return [memory[name] for memory in memories]
