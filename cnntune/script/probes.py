"""What a trained copy of a model does with batches that were seen, and what the batches are like.

Like the observer it runs in the Python of the script, and needs the standard library and `torch`
alone. Nothing is learned here: outputs are compared before and after a change of the inputs, and
inputs with targets. It returns numbers; the rules say what they mean.
"""

from __future__ import annotations

import time
from typing import Any

CHANGED = 1e-3  # of the standard deviation of the outputs: beyond rounding
EPSILONS = 64  # of the largest answer, in float32
MIN_ROWS = 4  # of a batch in which a sample is exchanged
PLACES = 3  # samples of a batch that are exchanged, one at a time
MIN_LENGTH = 4  # of a sequence
SHIFTED = 0.95  # share of the targets that equal the next input, for a model of the next one
MIN_SIDE = 8  # pixels of an image
MAX_SAMPLES = 256  # that are looked at
DECIDED = 1.5  # times the second best fit
FIT = 0.05  # squared correlation from which an image shows what its mask outlines
MAX_COLUMNS = 4096
MIN_OF_CLASS = 5  # samples
MAX_CLASSES = 50
EXACT = 1e-3  # of the standard deviation of a column, of what the target does not tell
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


def same(value: Any) -> Any:
    """A copy: models may change what they get."""
    return value.clone()


def run(
    model: Any, train: list[Shown], validation: list[Shown], torch: Any, until: float
) -> dict[str, Any]:
    """All probes, each by itself: one that raises is left out."""
    found: dict[str, Any] = {}
    probes: list[tuple[str, Any]] = [
        ("pictures", lambda: pictures(train, torch)),
        ("flips", lambda: flips(train, torch)),
        ("scales", lambda: scales(train, validation, torch)),
        ("columns", lambda: columns(train, torch)),
        ("padding", lambda: padding(train, torch)),
    ]
    if model is not None:
        probes += [
            ("mixed", lambda: mixed(model, train, torch)),
            ("unused", lambda: unused(model, train, torch)),
            ("future", lambda: future(model, train, torch)),
            ("agreement", lambda: agreement(model, train, torch)),
            ("pairs", lambda: pairs(model, train, torch)),
        ]
    for name, probe in probes:
        if time.monotonic() > until:
            break
        try:
            result = probe()
        except Exception as error:  # of a model that needs what it does not get here
            found.setdefault("skipped", {})[name] = repr(error)[:200]
            continue
        if result:
            found[name] = result
    return found


# One sample and the others


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


# What follows in a sequence


def next_inputs(shown: Shown, torch: Any) -> tuple[int, int] | None:
    """Which argument, along which dimension, has targets that are its next values.

    The targets are those of a loss, of a loader, or another argument of a model that computes its
    own loss; such a model may also shift `labels` by itself.
    """
    inputs = shown.tensors(torch)
    told = ([shown.target] if shown.target is not None else []) + shown.others + inputs[1:]
    for index, given in enumerate(inputs):
        for target in told if given.dim() >= 2 else []:
            if target is given or target.numel() != given.numel() or target.dtype != given.dtype:
                continue
            wanted = target.reshape(given.shape)
            for dim in (1, 0):
                last = given.shape[dim] - 1
                if last + 1 >= MIN_LENGTH and varies(given, dim):
                    if equal(given.narrow(dim, 1, last), wanted.narrow(dim, 0, last)):
                        return index, dim
    labels = shown.keywords.get("labels") if type(shown.keywords) is dict else None
    for index, given in enumerate(inputs):
        if labels is not None and labels is not given and labels.shape == given.shape:
            whole = given.dim() == 2 and float((labels >= 0).float().mean()) > 0.5
            if whole and equal(given, labels) and varies(given, 1):
                return index, 1
    return None


def equal(given: Any, told: Any) -> bool:
    """Whether nearly all targets equal the values; labels below 0 do not count."""
    kept = told == told if told.is_floating_point() else told >= 0
    same_values = (given == told)[kept]
    return bool(same_values.numel()) and float(same_values.float().mean()) > SHIFTED


def varies(given: Any, dim: int) -> bool:
    """Whether neighbours along a dimension usually differ."""
    length = given.shape[dim]
    one, other = given.narrow(dim, 1, length - 1), given.narrow(dim, 0, length - 1)
    return float((one != other).float().mean()) > 0.2


def future(model: Any, train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """Change the second half of sequences whose next values are wanted: what happens before it?"""
    for shown in reversed(train):
        found = next_inputs(shown, torch)
        if found is not None:
            return changed_later(model, shown, *found, torch)
    return None


def changed_later(
    model: Any, shown: Shown, index: int, dim: int, torch: Any
) -> dict[str, Any] | None:
    """The shares of the answers in either half that change with the inputs of the second."""
    given = shown.tensors(torch)[index]
    length = given.shape[dim]
    half = length // 2
    before = answers(model, shown, same, torch)
    if before is None or not bool(torch.isfinite(before).all()):
        return None
    if tuple(before.shape[:2]) != tuple(given.shape[:2]):
        if len(before) != given.numel():
            return None
        before = before.reshape(*given.shape[:2], -1)

    def later(tensor: Any) -> Any:
        changed = tensor.clone()
        if tensor is given:
            part = changed.narrow(dim, half, length - half)
            part.copy_(part.flip(dim).roll(1, 1 - dim))
        return changed

    after = answers(model, shown, later, torch).reshape(before.shape)
    gap = (after - before).abs() > rounding(before, torch)
    return {
        "early": float(gap.narrow(dim, 0, half).float().mean()),
        "late": float(gap.narrow(dim, half, length - half).float().mean()),
        "length": length,
    }


# Images


def images(train: list[Shown], torch: Any) -> Any:
    """The images that a model got, of one size; None where it got none."""
    found: list[Any] = []
    for shown in train:
        first = shown.tensors(torch)[0]
        if first.dim() == 4 and first.is_floating_point() and min(first.shape[2:]) >= MIN_SIDE:
            if not found or found[0].shape[1:] == first.shape[1:]:
                found.append(first.detach().float().cpu())
    return torch.cat(found)[:MAX_SAMPLES] if found else None


def pictures(train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """How alike neighbours are, as the images are read and as they would be channels last."""
    seen = images(train, torch)
    if seen is None or len(seen) < 2 * MIN_SIDE:
        return None
    _, channels, _, width = seen.shape
    flat = (seen - seen.mean(0)).reshape(len(seen), -1)
    power = float((flat * flat).mean())
    if not power > 0:
        return None

    def alike(lag: int) -> float:
        return float((flat[:, :-lag] * flat[:, lag:]).mean()) / power

    found: dict[str, Any] = {"shape": list(seen.shape[1:]), "samples": len(seen)}
    if 2 <= channels <= 4:
        found["read"] = [alike(1), alike(width)]
        found["last"] = [alike(channels), alike(width * channels)]
    levels, counts = torch.unique(seen, return_counts=True)
    if 32 <= len(levels) <= 256:
        low, high = float(levels[0]), float(levels[-1])
        place = (levels - low) / (high - low)
        share = counts.float() / counts.sum()
        found["ends"] = [float(share[place < 0.25].sum()), float(share[place > 0.75].sum())]
        found["middle"] = float(share[(place > 0.35) & (place < 0.65)].sum())
        found["extremes"] = [float(share[0]), float(share[-1])]
        found["levels"] = len(levels)
    return found


def edges(seen: Any) -> Any:
    """Where values change, of images `[N, H, W]`."""
    found = seen.new_zeros(seen.shape)
    found[:, :, :-1] += (seen[:, :, 1:] - seen[:, :, :-1]).abs()
    found[:, :-1] += (seen[:, 1:] - seen[:, :-1]).abs()
    return found


def fit(one: Any, other: Any) -> Any:
    """The squared correlation of two images, for each pair."""
    first, second = one.reshape(len(one), -1), other.reshape(len(other), -1)
    first = first - first.mean(1, keepdim=True)
    second = second - second.mean(1, keepdim=True)
    norm = (first.norm(dim=1) * second.norm(dim=1)).clamp_min(1e-12)
    return ((first * second).sum(1) / norm) ** 2


def flips(train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """Does a mask fit its image better mirrored than as it is?"""
    scores = []
    for shown in train:
        first = shown.tensors(torch)[0]
        if first.dim() != 4 or not first.is_floating_point() or min(first.shape[2:]) < MIN_SIDE:
            continue
        for target in shown.targets(torch):
            if target.dim() < 3 or target.shape[-2:] != first.shape[-2:]:
                continue
            image = first.detach().float().cpu().mean(1)
            mask = target.detach().float().cpu().reshape(len(first), -1, *first.shape[2:]).mean(1)
            outline = edges(image)
            tried = []
            for dims in ((), (2,), (1,), (1, 2)):
                turned, turned_border = mask.flip(dims), edges(mask.flip(dims))
                tried.append(fit(image, turned) + fit(outline, turned_border))
            scores.append(torch.stack(tried, 1))
            break
    if not scores:
        return None
    found = torch.cat(scores)
    best, second = found.topk(2, dim=1).values.unbind(1)
    decided = (best > FIT) & (best > DECIDED * second)
    count = int(decided.sum())
    if not count:
        return None
    winners = found[decided].argmax(1)
    return {"pairs": count, "as_it_is": float((winners == 0).float().mean())}


# Training and validation


def scales(train: list[Shown], validation: list[Shown], torch: Any) -> dict[str, Any] | None:
    """Mean and standard deviation of the inputs of both sets, where loaders gave them."""

    def values(batches: list[Shown]) -> list[Any]:
        found: list[Any] = []
        for shown in batches:
            first = shown.tensors(torch)[0]
            if shown.size is not None and first.is_floating_point() and first.dim() > 1:
                found.append(first.detach().float().cpu())
        return found

    ours, others = values(train), values(validation)
    if not ours or not others or {t.shape[1:] for t in ours} != {t.shape[1:] for t in others}:
        return None
    if len({t.shape[1:] for t in ours}) > 1:
        return None
    one, other = torch.cat(ours), torch.cat(others)
    return {
        "rows": [len(one), len(other)],
        "train": [float(one.mean()), float(one.std())],
        "validation": [float(other.mean()), float(other.std())],
    }


def columns(train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """An input that the target tells: the same but for a factor, or one number for each class."""
    inputs: list[Any] = []
    targets: list[Any] = []
    for shown in train:
        first, found = shown.tensors(torch)[0], shown.targets(torch)
        if not first.is_floating_point() or first.dim() < 2 or not found:
            continue
        rows, target = first.detach().float().cpu().reshape(len(first), -1), found[0]
        if target.numel() == len(rows) and rows.shape[1] <= MAX_COLUMNS:
            if not inputs or inputs[0].shape[1] == rows.shape[1]:
                inputs.append(rows)
                targets.append(target.detach().cpu().reshape(-1))
    if not inputs:
        return None
    rows, target = torch.cat(inputs), torch.cat(targets)
    about = {"rows": len(rows), "of": rows.shape[1]}
    spread = rows.std(0)
    kinds, counts = torch.unique(target, return_counts=True)
    if len(kinds) < 2 or len(rows) < 2 * MIN_SIDE:
        return None
    if len(kinds) <= MAX_CLASSES and bool((kinds == kinds.round()).all()):
        if int(counts.min()) < MIN_OF_CLASS:
            return None
        inside = torch.stack([rows[target == kind].std(0, unbiased=False) for kind in kinds])
        told = (inside.amax(0) < EXACT * spread) & (spread > 0)
        how = "it is one number for each class"
    else:
        values = target.float()
        values = (values - values.mean()) / values.std(unbiased=False)
        apart = rows - rows.mean(0)
        slope = (apart * values[:, None]).mean(0)
        left = (apart - slope * values[:, None]).std(0)
        told = (left < EXACT * spread) & (spread > 0)
        how = "it is the target, times a number"
    if not bool(told.any()):
        return None
    return {**about, "column": int(told.float().argmax()), "how": how}


def padding(train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """How much of the targets is one value that is repeated at the end of rows."""
    for shown in reversed(train):
        target = shown.target
        tokens = [t for t in shown.tensors(torch) if t.dim() == 2 and not t.is_floating_point()]
        if target is None or target.is_floating_point() or not tokens:
            continue
        count, length = tokens[-1].shape
        if target.numel() != count * length or length < MIN_LENGTH or count < MIN_ROWS:
            continue
        wanted = target.reshape(count, length)
        ends = wanted[:, -1]
        value = torch.mode(ends).values
        tail = ((wanted == value).flip(1).long().cumprod(1).sum(1)).float()
        padded = tail >= 2
        later = torch.arange(length, device=tail.device) > length - tail[:, None]
        behind = tokens[-1][later & padded[:, None]]
        if (
            not behind.numel()
            or float((behind == torch.mode(behind).values).float().mean()) < SHIFTED
        ):
            return None  # labels that are alike, of tokens that are not
        return {
            "value": int(value),
            "rows": float(padded.float().mean()),
            "share": float((tail * padded).sum()) / target.numel(),
        }
    return None


# Outputs and targets


def agreement(model: Any, train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """How often the largest output is the label, or how outputs and target images go together."""
    right = rows = 0.0
    parts = []
    for shown in train[-8:]:
        output = answers(model, shown, same, torch)
        for target in shown.targets(torch):
            if output is None or len(output) != len(target):
                continue
            if output.dim() == 2 and output.shape[1] > 1 and target.dim() == 1:
                if not target.is_floating_point():
                    # Of a loss, or numbers of all classes: no lengths, no numbers of samples.
                    low, high = int(target.min()), int(target.max())
                    if low == 0 and high == output.shape[1] - 1:
                        right += int((output.argmax(1) == target).sum())
                        rows += len(target)
                        break
            elif output.dim() >= 3 and output.numel() == target.numel():
                parts.append((output.reshape(-1), target.detach().float().reshape(-1)))
                break
    if rows:
        kinds = output.shape[1]
        return {"accuracy": right / rows, "rows": int(rows), "classes": int(kinds)}
    if parts:
        pair = torch.stack([torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])])
        if float(pair.std(1).min()) > 0:
            return {"correlation": float(torch.corrcoef(pair)[0, 1]), "values": pair.shape[1]}
    return None


def pairs(model: Any, train: list[Shown], torch: Any) -> dict[str, Any] | None:
    """How far apart two kinds of pairs are, in the inputs and in what the model returns.

    The kinds are those of a label that each pair has, or the two pairs of a triple.
    """
    inside: list[list[Any]] = [[], []]
    outside: list[list[Any]] = [[], []]
    for shown in train[-16:]:
        inputs = [t for t in shown.tensors(torch) if t.is_floating_point()]
        if not 2 <= len(inputs) <= 3 or len({t.shape for t in inputs}) > 1:
            continue
        args, keywords = mapped(shown.args, same, torch), mapped(shown.keywords, same, torch)
        with torch.no_grad():
            output = list(walked(model(*args, **keywords), torch))
        if len(output) != len(inputs) or len({t.shape for t in output}) > 1:
            continue
        if output[0].dim() != 2 or len(output[0]) != len(inputs[0]):
            continue
        gaps = [
            [(group[0] - other).reshape(len(other), -1).norm(dim=1).float() for other in group[1:]]
            for group in (inputs, output)
        ]
        if len(inputs) == 3:
            for kind in (0, 1):
                inside[kind].append(gaps[0][kind])
                outside[kind].append(gaps[1][kind])
            continue
        label = two_kinds([*shown.others, shown.target], len(output[0]), torch)
        if label is not None:
            for kind, chosen in enumerate((label == label.min(), label != label.min())):
                inside[kind].append(gaps[0][0][chosen])
                outside[kind].append(gaps[1][0][chosen])
    if not inside[0]:
        return None
    (a, b), (c, d) = map(torch.cat, inside), map(torch.cat, outside)
    if min(len(a), len(b)) < 2:
        return None
    return {"inputs": apart(a, b), "outputs": apart(c, d), "pairs": len(a) + len(b)}


def two_kinds(values: list[Any], count: int, torch: Any) -> Any:
    """The first tensor with one value per sample that is one of two."""
    for value in values:
        if value is not None and value.numel() == count and len(torch.unique(value)) == 2:
            return value.reshape(-1)
    return None


def apart(one: Any, other: Any) -> float:
    """The difference of two means in standard deviations."""
    spread = ((one.var() + other.var()) / 2).sqrt().clamp_min(1e-12)
    return float((other.mean() - one.mean()) / spread)
