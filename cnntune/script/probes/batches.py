"""One sample of a batch and the others, and arguments that have no effect."""

from __future__ import annotations

from typing import Any

from .answers import SEED, Shown, answers, mapped, repeats, rounding, same, walked

MIN_ROWS = 4  # of a batch in which a sample is exchanged
PLACES = 3  # samples of a batch that are exchanged, one at a time


def is_batch(shown: Shown, torch: Any) -> bool:
    """Whether the first dimension is known to count samples, and not time or nodes."""
    tensors = shown.tensors(torch)
    first = tensors[0]
    count = len(first)
    if count < MIN_ROWS or any(not t.dim() or len(t) != count for t in tensors):
        return False  # a graph, a memory, a state
    if any(t.dim() == 2 and t.shape[0] == t.shape[1] for t in tensors[1:]):
        return False
    if shown.size == count:
        return True
    target = shown.target
    if target is None or not target.dim() or len(target) != count or len(tensors) > 1:
        return False  # with several inputs, such as examples and queries, it may be chance
    sequence = first.dim() >= 3 or (first.dim() == 2 and not first.is_floating_point())
    return sequence and (target.dim() == 1 or target.shape[1] != first.shape[1])


def mixed(model: Any, train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """Exchange one sample of a batch: do the answers for others change? And in another order?"""
    batches = [shown for shown in train if is_batch(shown, torch)]
    if len({tuple(shown.rows) for shown in batches}) < 2:
        return None  # one batch of all there is: nodes of a graph
    shown = batches[-1]
    count = len(shown.tensors(torch)[0])
    before = answers(model, shown, same, torch)
    if before is None or len(before) != count or tuple(before.shape[:2]) == (count, count):
        return None
    if not bool(torch.isfinite(before).all()):
        return None
    limit = rounding(before, torch)
    if not repeats(model, shown, before, limit, torch):
        return None
    others, tried, own = 0, 0, 0
    for place in [count * i // PLACES for i in range(PLACES)]:
        donor = next((j for j in range(count) if shown.rows[j] != shown.rows[place]), None)
        if donor is None:
            return None

        def exchange(tensor: Any, place: int = place, donor: int = donor) -> Any:
            found = tensor.clone()
            found[place] = tensor[donor]
            return found

        after = answers(model, shown, exchange, torch)
        differs = (after - before).abs().reshape(count, -1).amax(1) > limit
        own += int(differs[place])
        others += int(differs.sum()) - int(differs[place])
        tried += count - 1
    found = {"others": others / tried, "own": own / PLACES, "rows": count}
    again = answers(model, shown, same, torch, SEED + 1)
    if float((again - before).abs().max()) <= limit:  # nothing is drawn
        back = torch.arange(count - 1, -1, -1)
        turned = answers(model, shown, lambda t: t[back.to(t.device)].clone(), torch)
        moved = (turned[back.to(turned.device)] - before).abs().reshape(count, -1).amax(1)
        found["moved"] = float((moved > limit).float().mean())
    found["unnormed"] = sum(
        "BatchNorm" in type(part).__name__ and getattr(part, "running_mean", None) is None
        for part in model.modules()
    )
    return found


def unused(model: Any, train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """The arguments that can be exchanged between samples without any effect, in either mode."""
    shown = next((one for one in reversed(train) if is_batch(one, torch)), None)
    if shown is None or len(shown.tensors(torch)) < 2:
        return None
    idle = idle_inputs(model, shown, torch)
    model.train()
    if idle:
        idle &= idle_inputs(model, shown, torch)
    model.eval()
    keys = list(shown.keywords) if type(shown.keywords) is dict else []
    positional = len(list(walked(shown.args, torch)))
    names = [
        keys[index - positional] if 0 <= index - positional < len(keys) else f"argument {index + 1}"
        for index in sorted(idle)
    ]
    return {"names": names} if names else None


def idle_inputs(model: Any, shown: Shown, torch: Any) -> set[int]:
    """The tensors among the arguments that can be exchanged without any effect."""

    def everything(change: Any) -> list[Any]:
        args = mapped(shown.args, change, torch)
        keywords = mapped(shown.keywords, change, torch)
        torch.manual_seed(SEED)
        with torch.enable_grad():
            return [t.detach() for t in walked(model(*args, **keywords), torch)]

    before, again = everything(same), everything(same)
    if not before or not all(torch.equal(a, b) for a, b in zip(before, again)):
        return set()
    found = set()
    for index, given in enumerate(shown.tensors(torch)):

        def exchange(tensor: Any, given: Any = given) -> Any:
            return tensor.roll(1, 0) if tensor is given else tensor.clone()

        if not torch.equal(given.roll(1, 0), given):
            after = everything(exchange)
            if all(torch.equal(a, b) for a, b in zip(before, after)):
                found.add(index)
    return found
