"""The cost of a training step: time and memory, the latter estimated and, on a GPU, measured."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cnntune.config.recipe import TrainSection
from cnntune.steps.inspect.layers import state_on
from cnntune.training.loop import Learner

TIMED_STEPS = 3
SECONDS = 2.0  # a first step that takes longer is not repeated
STEP_WORK = 5e10  # multiply-adds in a timed batch on a CPU: a few seconds on one core
BACKWARD = 3  # work of a step in forward passes: one forward, and two for the backward pass


@dataclass(frozen=True)
class Memory:
    """Bytes of one training step at the recipe's batch size.

    `activations` are tensors that the forward pass saves for the backward pass. `measured` is the
    peak on a GPU, including the workspace of its kernels; None on other devices.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    measured: int | None = None

    @property
    def total(self) -> int:
        """The sum of the estimates."""
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate_memory(
    model: nn.Module, in_shape: tuple[int, int, int], settings: TrainSection
) -> Memory | None:
    """The memory of a step, computed from shapes; None if the model does not run on `meta` tensors.

    `settings` contain the final precision. With bfloat16, the tensors saved for the backward pass
    are counted at half their size.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = sum(p.numel() * p.element_size() for p in trained)
    weights = sum(
        t.numel() * t.element_size() for t in state_on(model, torch.device("meta")).values()
    )
    copies = 2 if settings.optimizer != "sgd" else int(settings.momentum > 0)
    try:
        kept = _kept_for_backward(model, (settings.batch_size, *in_shape))
    except (RuntimeError, TypeError, NotImplementedError):
        return None
    if settings.precision == "bfloat16":
        kept //= 2
    return Memory(weights, gradients, copies * gradients, kept)


def _kept_for_backward(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes of all tensors that a forward pass in train mode saves, without the weights."""
    meta = torch.device("meta")
    state = state_on(model, meta)
    ours = {_storage(tensor) for tensor in state.values()}
    saved: dict[int, Tensor] = {}  # keeps the tensors alive, so that no address is reused

    def keep(tensor: Tensor) -> Tensor:
        saved[_storage(tensor)] = tensor
        return tensor

    images = torch.zeros(shape, device=meta)
    training = model.training
    model.train()
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            logits = functional_call(model, state, (images,))
    finally:
        model.train(training)
    del logits
    return sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in ours)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def time_step(
    learner: Learner, images: Tensor, labels: Tensor, multiply_adds: int
) -> tuple[float, int | None]:
    """Seconds per training step on a whole batch, and the peak GPU memory in bytes.

    On a CPU, a batch that takes long is timed on fewer images and extrapolated. The step changes
    the weights.
    """
    batch = len(images)
    if learner.device.type == "cpu":
        allowed = int(STEP_WORK / (BACKWARD * max(1, multiply_adds)))
        images, labels = images[: max(2, allowed)], labels[: max(2, allowed)]
    learner.model.train()
    with _peak(learner.device) as peak:
        seconds = _seconds(learner, images, labels)  # the first step also allocates
        if seconds < SECONDS:
            seconds = min(_seconds(learner, images, labels) for _ in range(TIMED_STEPS))
    return seconds * batch / len(images), peak[0] if peak else None


def _seconds(learner: Learner, images: Tensor, labels: Tensor) -> float:
    _wait(learner.device)  # a GPU may still be running earlier kernels
    start = time.perf_counter()
    learner.step(images, labels)
    _wait(learner.device)
    return time.perf_counter() - start


@contextmanager
def _peak(device: torch.device) -> Iterator[list[int]]:
    """Append to the list the peak memory in bytes that torch allocated on a GPU in the block."""
    peak: list[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield peak
    if device.type == "cuda":
        peak.append(torch.cuda.max_memory_allocated(device))


def _wait(device: torch.device) -> None:
    """Wait until all kernels queued on the device are done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def as_json(memory: Memory) -> dict[str, Any]:
    """The memory as in the `--json` contract, in bytes."""
    return {**vars(memory), "total": memory.total}
