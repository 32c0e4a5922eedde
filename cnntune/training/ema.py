"""An exponential moving average of a network's weights."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn


class WeightEma:
    """The moving average of weights, and of the running statistics of normalisation layers.

    `decay` is the share of the average that each step keeps: 0.99 averages over about 100 steps. It
    starts at 0.1 and rises as (1 + step) / (10 + step), so that the initial weights are soon
    forgotten (TensorFlow's `ExponentialMovingAverage` with `num_updates`).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        tensors = chain(model.parameters(), model.buffers())
        self.current: list[Tensor] = [t for t in tensors if t.is_floating_point()]
        self.averages = [tensor.detach().clone() for tensor in self.current]
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after a step to the average."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averages, self.current, 1 - decay)
        self.steps += 1

    def swap(self) -> None:
        """Exchange the network's weights and their averages; a second call restores them."""
        for tensor, average in zip(self.current, self.averages, strict=True):
            tensor.data, average.data = average.data, tensor.data

    def restore(self, averages: Sequence[Tensor], steps: int) -> None:
        """Continue from stored averages."""
        for average, stored in zip(self.averages, averages, strict=True):
            average.copy_(stored)
        self.steps = steps
