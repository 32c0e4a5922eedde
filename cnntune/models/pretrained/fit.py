"""Load pretrained weights into a model, except its head."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from cnntune.errors import RecipeError
from cnntune.models.pretrained.blocks import head_of
from cnntune.models.pretrained.weights import State, Weights

AUXILIARY = ("aux", "AuxLogits")  # torchvision's names of heads that are used only in training
MAX_SHOWN = 3  # tensors that an error names


def put(weights: Weights, model: nn.Module, classes: Sequence[str], source: str) -> None:
    """Load weights into `model`; its head keeps its own unless the weights have the same classes.

    For grey images, a first convolution for three channels is summed over them: the result is that
    of three equal channels.

    Raises:
        RecipeError: where the tensors do not match the model's backbone.
    """
    current = model.state_dict()
    fresh = AUXILIARY if weights.classes == tuple(classes) else (*AUXILIARY, _head(model))
    backbone = _for_grey(
        {n: t for n, t in weights.state.items() if not n.startswith(fresh)}, current
    )
    problems = list(
        _problems(backbone, {n: t for n, t in current.items() if not n.startswith(fresh)})
    )
    if problems:
        raise RecipeError(f"model.weights: {source}: {problem}" for problem in problems)
    model.load_state_dict(backbone, strict=False)


def _head(model: nn.Module) -> str:
    """The prefix of the names of the head's tensors."""
    head = head_of(model)
    name = next(name for name, module in model.named_modules() if module is head)
    return f"{name}." if name else ""


def _for_grey(state: State, current: State) -> State:
    first = next((name for name, tensor in current.items() if tensor.ndim == 4), "")
    if first not in state or current[first].shape[1] != 1:
        return state
    return {**state, first: state[first].sum(1, keepdim=True)}


def _problems(found: State, wanted: State) -> Iterator[str]:
    unfit = [
        f"{name} is {_shape(tensor)} there and {_shape(wanted[name])} here"
        for name, tensor in found.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    # Old versions of torch did not store num_batches_tracked.
    lacking = [n for n in wanted if n not in found and not n.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in wanted]
    if unfit:
        yield f"does not fit the model: {_some(unfit)}"
    if lacking:
        yield f"lacks {len(lacking)} of the model's {len(wanted)} tensors: {_some(lacking)}"
    if unknown:
        yield f"holds {len(unknown)} tensors that the model lacks: {_some(unknown)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape)
