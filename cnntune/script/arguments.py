"""What a loss function of torch was given, as numbers: the rules hold them against what it takes.

Like the observer it runs in the Python of the script, and needs the standard library and `torch`
alone.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

MAX_KINDS = 4  # different values of a target that are listed
MAX_CLASSES = 100
MAX_SIZE = 10**6  # values of a tensor that are looked at

# What is differentiated and what it is compared with, where they are not called input and target.
NAMES = {
    "ctc_loss": ("log_probs", "targets"),
    "cosine_embedding_loss": ("input1", "target"),
    "margin_ranking_loss": ("input1", "target"),
}
SETTINGS = ("log_input", "log_target", "reduction", "ignore_index", "full", "blank")


@functools.cache
def signature(function: Any) -> inspect.Signature:
    """The signature of a function, which takes longer to find than to use."""
    return inspect.signature(function)


def bound(function: Any, args: Any, keywords: Any) -> dict[str, Any]:
    """Arguments by name, defaults included; empty where they do not fit."""
    try:
        found = signature(getattr(function, "__wrapped__", function)).bind(*args, **keywords)
    except (TypeError, ValueError):
        return {}
    found.apply_defaults()
    return dict(found.arguments)


def facts(name: str, given: dict[str, Any], source: str, torch: Any) -> dict[str, Any]:
    """The numbers of one call; `source` is the operation that the prediction comes from."""
    first, second = NAMES.get(name, ("input", "target"))
    prediction, target = given.get(first), given.get(second)
    found: dict[str, Any] = {key: given[key] for key in SETTINGS if key in given}
    found["source"] = source
    if isinstance(prediction, torch.Tensor) and 0 < prediction.numel() <= MAX_SIZE:
        found["input"] = numbers(prediction, torch)
        found["input_grad"] = prediction.requires_grad
    if isinstance(target, torch.Tensor) and 0 < target.numel() <= MAX_SIZE:
        found["target"] = numbers(target, torch)
        found["target_grad"] = target.requires_grad
        if source in LIMITS:
            low, high = LIMITS[source]
            values = target.detach().float()
            found["unreachable"] = float(((values < low) | (values > high)).float().mean())
    found.update(of_weights(name, given, torch))
    if name == "ctc_loss":
        found.update(of_sequences(given, torch))
    return found


LIMITS = {  # of what an operation returns
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Relu": (0.0, float("inf")),
    "Softplus": (0.0, float("inf")),
}


def numbers(tensor: Any, torch: Any) -> dict[str, Any]:
    """Extremes, the few values there are, and how far the sums over each dimension are from 1."""
    values = tensor.detach().float()
    low, high = torch.aminmax(values)
    found: dict[str, Any] = {
        "shape": list(tensor.shape),
        "float": tensor.is_floating_point(),
        "min": float(low),
        "max": float(high),
    }
    kinds = torch.unique(values.reshape(-1)[:4096])
    if len(kinds) <= MAX_KINDS:
        found["kinds"] = kinds.tolist()
    if tensor.is_floating_point() and tensor.dim() > 1:
        found["sums"] = [float((values.sum(d) - 1).abs().max()) for d in range(values.dim())]
        found["log_sums"] = [float(values.logsumexp(d).abs().max()) for d in range(values.dim())]
    return found


def of_weights(name: str, given: dict[str, Any], torch: Any) -> dict[str, Any]:
    """The weights of classes, and how many targets each has."""
    weight, target = given.get("weight"), given.get("target")
    if not isinstance(target, torch.Tensor) or not target.numel():
        return {}
    if name == "cross_entropy" and isinstance(weight, torch.Tensor):
        if len(weight) <= MAX_CLASSES and not target.is_floating_point():
            kept = target.detach()[(target >= 0) & (target < len(weight))].reshape(-1)
            counts = torch.bincount(kept, minlength=len(weight))
            return {"weights": weight.detach().tolist(), "counts": counts.tolist()}
    weight = given.get("pos_weight")
    if isinstance(weight, torch.Tensor) and weight.numel() == 1:
        positive = float(target.detach().float().sum())
        counts = [target.numel() - positive, positive]
        return {"weights": [1.0, float(weight)], "counts": counts}
    return {}


def of_sequences(given: dict[str, Any], torch: Any) -> dict[str, Any]:
    """Lengths and symbols of the connectionist temporal classification."""
    inputs = torch.as_tensor(given["input_lengths"]).reshape(-1).tolist()
    lengths = torch.as_tensor(given["target_lengths"]).reshape(-1).tolist()
    targets, blank = given["targets"].detach(), int(given.get("blank", 0))
    if targets.dim() == 2:
        parts = [row[:count] for row, count in zip(targets, lengths)]
        symbols = torch.cat(parts) if parts else targets.reshape(-1)
    else:
        symbols = targets[: sum(lengths)]
    steps = given["log_probs"].shape[0]
    return {
        "too_long": sum(a < b for a, b in zip(inputs, lengths)) / max(1, len(lengths)),
        "blanks": float((symbols == blank).float().mean()) if len(symbols) else 0.0,
        "used": max(inputs, default=0) / max(1, steps),
    }
