"""Read pretrained weights, without executing code in a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnntune.errors import RecipeError
from cnntune.machine.optional import import_torchvision

PUBLISHED = "imagenet"  # the value of `model.weights` that means torchvision's own
IMAGENET_CLASSES = 1000
NESTED = (
    "weights",
    "state_dict",
    "model",
)  # keys under which training programs store the state; ours is first

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """Pretrained weights.

    `mean` and `std` are those of the inputs, per channel and for pixels in 0..1, and `classes` the
    class names; None where the source does not say.
    """

    state: State
    mean: Tensor | None
    std: Tensor | None
    classes: tuple[str, ...] | None


def read_weights(source: str, model_name: str) -> Weights:
    """The weights that `model.weights` names: `imagenet`, or a file.

    A file is a `best.pt` of cnntune or a state dict. One with 1000 classes for a torchvision
    classifier is assumed to be a published one, with torchvision's normalisation.

    Raises:
        RecipeError: where there are no such weights, or the file holds something else.
    """
    if source == PUBLISHED:
        published = _published(model_name)
        mean, std = _statistics(published)
        return Weights(_download(published, model_name), mean, std, None)
    held = _read(Path(source).expanduser())
    state = _state(held, source)
    if _is_ours(held):
        return Weights(state, held["mean"], held["std"], tuple(held["classes"]))
    last = next((tensor for tensor in reversed(list(state.values())) if tensor.ndim), None)
    if last is not None and len(last) == IMAGENET_CLASSES and _is_published(model_name):
        return Weights(state, *_statistics(_published(model_name)), None)
    return Weights(state, None, None, None)


def read_statistics(source: str, model_name: str) -> tuple[Tensor, Tensor] | None:
    """Mean and std `[C]` of the inputs that the weights were trained on; None if unknown.

    Raises:
        RecipeError: where there are no such weights.
    """
    if source == PUBLISHED:  # known without downloading the weights
        return _statistics(_published(model_name))
    weights = read_weights(source, model_name)
    return None if weights.mean is None or weights.std is None else (weights.mean, weights.std)


def save_weights(
    model: nn.Module,
    mean: Tensor,
    std: Tensor,
    classes: Sequence[str],
    path: Path,
    **further: Any,
) -> None:
    """Write weights, classes and the mean and std `[C]` of the inputs, atomically by rename.

    `further` are plain values that are kept beside them.

    `torch.load(path, weights_only=True)["weights"]` is the state dict, on the CPU wherever the
    model was trained: a file that names a GPU cannot be read where there is none.
    """
    draft = path.with_suffix(".draft")
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    held = {"weights": state, "mean": mean.cpu(), "std": std.cpu()}
    torch.save(held | {"classes": list(classes)} | further, draft)
    draft.replace(path)


def _is_published(model_name: str) -> bool:
    torchvision = import_torchvision()
    return model_name in torchvision.models.list_models(module=torchvision.models)


def _published(model_name: str) -> Any:
    """The default weights of torchvision for a classifier."""
    if not _is_published(model_name):
        raise RecipeError(
            f'model.weights: "{PUBLISHED}" needs a torchvision classifier such as resnet18'
            f" (got {model_name}); allowed: the path of a file"
        )
    return import_torchvision().models.get_model_weights(model_name).DEFAULT


def _statistics(published: Any) -> tuple[Tensor, Tensor]:
    transforms = published.transforms()
    return torch.tensor(transforms.mean), torch.tensor(transforms.std)


def _download(published: Any, model_name: str) -> State:
    """The published state dict, from torch's cache if it is there, else downloaded."""
    try:
        state: State = published.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # offline, a broken download, a full disk: different types
        name = published.url.rpartition("/")[2]
        raise RecipeError(
            f"model.weights: {PUBLISHED}: cannot download {name} for {model_name}"
            f" ({_reason(error)}); put it into {Path(torch.hub.get_dir()) / 'checkpoints'},"
            " or give its path"
        ) from error
    return state


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RecipeError(f"model.weights: {path}: no such file")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken or malicious pickles raise many types
        raise RecipeError(
            f"model.weights: {path}: holds no weights that can be read safely ({_reason(error)});"
            " allowed: what torch.save(model.state_dict(), path) writes, and best.pt of cnntune"
        ) from error
    if not isinstance(held, dict):
        raise RecipeError(
            f"model.weights: {path}: must hold a state dict (got {type(held).__name__})"
        )
    return held


def _is_ours(held: Mapping[str, Any]) -> bool:
    statistics = [held.get("mean"), held.get("std")]
    named = isinstance(held.get("classes"), list)
    return named and all(isinstance(value, Tensor) and value.ndim == 1 for value in statistics)


def _state(held: Mapping[str, Any], source: str) -> State:
    """The state dict in a file, without the prefix that `DataParallel` adds."""
    nested = next((held[key] for key in NESTED if isinstance(held.get(key), dict)), held)
    wrong = [name for name, tensor in nested.items() if not isinstance(tensor, Tensor)]
    if wrong or not nested:
        found = f"{wrong[0]!r} is a {type(nested[wrong[0]]).__name__}" if wrong else "it is empty"
        raise RecipeError(f"model.weights: {source}: must hold a state dict of tensors ({found})")
    prefix = "module."
    if all(name.startswith(prefix) for name in nested):
        return {name.removeprefix(prefix): tensor for name, tensor in nested.items()}
    return nested


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
