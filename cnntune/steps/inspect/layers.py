"""The table of layers: shapes, parameters, multiply-adds and receptive fields."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from cnntune.steps.inspect.receptive import Receptive, Sight, sight_of

ITSELF = "the model itself"  # the row for operations outside of any submodule
IMAGES = 2  # in the forward pass: some models squeeze a batch of one


@dataclass(frozen=True)
class Layer:
    """A row of the table.

    `output` is the shape per image. `multiply_adds` are per image, in convolutions, linear layers
    and matrix products. `receptive_field` and `stride` are in pixels of the image, along the longer
    side; None if the output cannot be traced back to the image. The standard deviations are those
    at initialisation, over all values of the layer's output, and of the gradient of the mean loss
    with respect to it; None if not measured.
    """

    name: str
    type: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int | None
    stride: int | None
    activation_std: float | None = None
    gradient_std: float | None = None


def layer_table(model: nn.Module, in_shape: tuple[int, int, int]) -> list[Layer]:
    """The layers of `model` in eval mode, in the order in which they first run.

    A layer is a module without children, or with weights or computation of its own. The model is
    not modified. The forward pass runs on the meta device or, if the model needs actual values, on
    the CPU.
    """
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            try:
                return _table(model, in_shape, torch.device("meta"))
            except (RuntimeError, TypeError, NotImplementedError):
                return _table(model, in_shape, torch.device("cpu"))
    finally:
        model.train(training)


def _table(model: nn.Module, in_shape: tuple[int, int, int], device: torch.device) -> list[Layer]:
    images = torch.zeros(IMAGES, *in_shape, device=device)
    state = state_on(model, device)
    outputs: dict[str, tuple[torch.Size, Sight | None]] = {}
    with _watching(model, outputs), FlopCounterMode(display=False) as counter, Receptive(images):
        functional_call(model, state, (images,))
    operations = {
        name.partition(".")[2]: sum(counts.values())
        for name, counts in counter.get_flop_counts().items()
        if name != "Global"
    }
    own = {name: _own(name, model.get_submodule(name), operations) for name in outputs}
    weights = _weights(model, own)
    return [
        _layer(name, module, outputs[name], weights[name], own[name])
        for name in outputs
        if _is_layer(module := model.get_submodule(name), weights[name], own[name])
    ]


def state_on(model: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Copies of parameters and buffers on `device`, with `requires_grad` as in the model."""
    state = {name: b.detach().to(device) for name, b in model.named_buffers()}
    for name, parameter in model.named_parameters():
        moved = parameter.detach().to(device)
        state[name] = moved.requires_grad_(parameter.requires_grad)
    return state


@contextmanager
def _watching(
    model: nn.Module, outputs: dict[str, tuple[torch.Size, Sight | None]]
) -> Iterator[None]:
    """Record the shape and the label of each module's output."""
    hooks = []
    for name, module in model.named_modules():

        def keep(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
            if isinstance(tensor := first_tensor(output), Tensor):
                outputs[name] = (tensor.shape, sight_of(tensor))

        hooks.append(module.register_forward_hook(keep))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def first_tensor(output: Any) -> Any:
    """The output, or the first element of a tuple or list."""
    return output[0] if isinstance(output, tuple | list) and output else output


def _own(name: str, module: nn.Module, operations: dict[str, int]) -> int:
    """The operations of the module itself, without those of its children."""
    prefix = f"{name}." if name else ""
    children = sum(operations.get(prefix + child, 0) for child, _ in module.named_children())
    return operations.get(name, 0) - children


def _weights(model: nn.Module, own: dict[str, int]) -> dict[str, int]:
    """The parameters of each module that was called, with those of submodules it does not call.

    Attention uses the weights of its projections without calling them. Parameters of modules that
    are not used, such as an auxiliary head, are in no row.
    """
    weights = dict.fromkeys(own, 0)
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0]
        outermost = owner == ""
        while owner and owner not in own:
            owner = owner.rpartition(".")[0]
        if owner or outermost or own.get("", 0):
            weights[owner] = weights.get(owner, 0) + parameter.numel()
    return weights


def _is_layer(module: nn.Module, weights: int, operations: int) -> bool:
    if isinstance(module, nn.Identity):
        return False
    return weights > 0 or operations > 0 or next(module.children(), None) is None


def _layer(
    name: str,
    module: nn.Module,
    output: tuple[torch.Size, Sight | None],
    weights: int,
    operations: int,
) -> Layer:
    shape, sight = output
    return Layer(
        name=name or ITSELF,
        type=type(module).__name__,
        output=tuple(shape[1:]),
        parameters=weights,
        multiply_adds=operations // 2 // IMAGES,  # the counter counts both halves
        receptive_field=round(max(sight.field)) if sight else None,
        stride=round(max(sight.stride)) if sight else None,
    )
