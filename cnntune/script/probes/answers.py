"""Batches as a model got them, and what it answers to them, changed or not."""

from __future__ import annotations

from typing import Any

CHANGED = 1e-3  # of the standard deviation of the outputs: beyond rounding
EPSILONS = 64  # of the largest answer, in float32
SEED = 1
PLAIN = (int, float, bool, str, type(None))


class Shown:
    """A batch as a model got it: arguments, and what else its loader or its loss had."""

    def __init__(
        self, args: Any, keywords: Any, target: Any, others: list[Any], rows: list[int], size: Any
    ) -> None:
        self.args, self.keywords, self.rows = args, keywords, rows
        self.target = target  # of a loss function of torch, None where there was none
        self.others = others  # tensors of the loader's batch that are no inputs
        self.size = size  # the loader's batch size

    def tensors(self, torch: Any) -> list[Any]:
        """The tensors among the arguments."""
        return list(walked([self.args, self.keywords], torch))

    def targets(self, torch: Any) -> list[Any]:
        """What the outputs may have to equal: one value or more for each sample."""
        count = len(self.tensors(torch)[0])
        found = [self.target] if self.target is not None else self.others
        return [one for one in found if one.dim() and len(one) == count]


def walked(value: Any, torch: Any) -> Any:
    """The tensors in lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from walked(entry, torch)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from walked(entry, torch)


def mapped(value: Any, change: Any, torch: Any) -> Any:
    """Arguments with their tensors changed; a KeyError where something else is among them."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) is dict:
        return {key: mapped(entry, change, torch) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(mapped(entry, change, torch) for entry in value)
    if isinstance(value, PLAIN):
        return value
    raise KeyError(type(value).__name__)


def answers(model: Any, shown: Shown, change: Any, torch: Any, seed: int = SEED) -> Any:
    """The first tensor of numbers that the model returns for changed inputs."""
    args = mapped(shown.args, change, torch)
    keywords = mapped(shown.keywords, change, torch)
    torch.manual_seed(seed)
    with torch.enable_grad():  # as in training: layers of attention compute otherwise without
        output = model(*args, **keywords)
    if hasattr(output, "logits"):
        output = output.logits
    for tensor in walked(output, torch):
        if tensor.dtype in (torch.float32, torch.float64) and tensor.dim():
            return tensor.detach().float()
    return None


def rounding(before: Any, torch: Any) -> float:
    """From which difference on an answer has changed."""
    exact = torch.finfo(torch.float32).eps * EPSILONS * float(before.abs().max())
    return float(CHANGED * before.std() + exact)


def repeats(model: Any, shown: Shown, before: Any, limit: float, torch: Any) -> bool:
    """Whether the same inputs give the same answers again: nothing is drawn but from torch."""
    return bool(float((answers(model, shown, same, torch) - before).abs().max()) <= limit)


def same(value: Any) -> Any:
    """A copy: models may change what they get."""
    return value.clone()
