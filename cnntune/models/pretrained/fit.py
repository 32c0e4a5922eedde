"""From weights that were learned before to a model of ours, whose head stays fresh."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from cnntune.errors import RecipeError
from cnntune.models.pretrained.blocks import head_of
from cnntune.models.pretrained.weights import State, Weights

AUXILIARY = ("aux", "AuxLogits")  # torchvision's names for heads that help in training alone
SHOWN = 3  # tensors that are named in a problem


def put(weights: Weights, model: nn.Module, classes: Sequence[str], source: str) -> None:
    """Put weights into `model`; its head stays fresh unless they know the same classes.

    A first convolution for red, green and blue is summed up for grey images: it then gives what it
    gave for three equal channels.

    Raises:
        RecipeError: where the tensors are not those of the model's backbone.
    """
    own = model.state_dict()
    fresh = AUXILIARY if weights.classes == tuple(classes) else (*AUXILIARY, _head(model))
    backbone = _for_grey({n: t for n, t in weights.state.items() if not n.startswith(fresh)}, own)
    problems = list(_problems(backbone, {n: t for n, t in own.items() if not n.startswith(fresh)}))
    if problems:
        raise RecipeError(f"model.weights: {source}: {problem}" for problem in problems)
    model.load_state_dict(backbone, strict=False)


def _head(model: nn.Module) -> str:
    """How the names of the head's tensors begin."""
    head = head_of(model)
    name = next(name for name, module in model.named_modules() if module is head)
    return f"{name}." if name else ""


def _for_grey(state: State, own: State) -> State:
    first = next((name for name, tensor in own.items() if tensor.ndim == 4), "")
    if first not in state or own[first].shape[1] != 1:
        return state
    return {**state, first: state[first].sum(1, keepdim=True)}


def _problems(found: State, wanted: State) -> Iterator[str]:
    unfit = [
        f"{name} is {_shape(tensor)} there and {_shape(wanted[name])} here"
        for name, tensor in found.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    # Files of old versions of torch do not count the batches of their norms.
    lacking = [n for n in wanted if n not in found and not n.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in wanted]
    if unfit:
        yield f"does not fit the model: {_some(unfit)}"
    if lacking:
        yield f"lacks {len(lacking)} of the model's {len(wanted)} tensors: {_some(lacking)}"
    if unknown:
        yield f"holds {len(unknown)} tensors that the model lacks: {_some(unknown)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape)
