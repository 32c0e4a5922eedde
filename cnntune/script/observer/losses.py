"""What the hooks note of forward passes, losses and answers."""

from __future__ import annotations

import os
import sys
import weakref
import zlib
from typing import Any

from .data import note_first_weights
from .graphs import MARK, origin
from .kept import KEPT_BATCHES, keep_forward, keep_loss, note_target, show
from .models import differs_in_eval, extremes, frozen, note_trainable
from .places import HERE, caller, is_theirs, place, route
from .seen import SEEN, beside, watching
from .tensors import (
    averages,
    differs,
    labelled_rows,
    look,
    other_prints,
    rich,
    row_prints,
    statistics,
    tensors_in,
    whole_rows,
)

MIN_MEASURED = 2  # forward passes of a validation; a teacher has one beside each step
MIN_TWINS = 8  # different samples of a batch
MAX_TWINS = 4  # passes of a model that are compared
MAX_NEGATIVES = 64  # tensors of which it is known that they are the negative of another one
LOSSES = (  # that are computed again from a model's result
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div",
)  # fmt: skip
OTHER_LOSSES = (
    "ctc_loss", "gaussian_nll_loss", "poisson_nll_loss", "cosine_embedding_loss",
    "margin_ranking_loss", "hinge_embedding_loss", "soft_margin_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss",
)  # fmt: skip
LOGARITHMIC = ("nll_loss", "kl_div")  # these take logarithms of probabilities
CLASSIFYING = ("cross_entropy", "nll_loss")


@watching
def note_forward(module: Any, args: Any, keywords: Any, output: Any, torch: Any) -> None:
    """A forward pass of a module that no other module called."""
    parameters = list(module.parameters())
    if not parameters:
        return
    number = SEEN.numbers.of(module)
    deep = SEEN.deep(SEEN.forwards)
    SEEN.forwards += 1
    if number not in SEEN.roots or deep:
        SEEN.roots[number] = weakref.ref(module)
        SEEN.watched[number] = [part for part in module.modules() if differs_in_eval(part)]
        entry = SEEN.models.setdefault(number, {"class": type(module).__name__, "first": None})
        entry["shapes"] = zlib.crc32(repr([tuple(p.shape) for p in parameters]).encode())
        if entry["first"] is None:
            entry["first"] = look(parameters)
            note_first_weights(parameters, torch)
            note_trainable(parameters)
            entry["frozen"] = frozen(module)
            entry["dropped"], entry["momentum"] = extremes(module)
    at, grad = place(), torch.is_grad_enabled()
    event = SEEN.event(
        "forward",
        model=number,
        train=module.training,
        active=sum(part.training for part in SEEN.watched[number]),
        watched=len(SEEN.watched[number]),
        norms=sum(
            part.training and "BatchNorm" in type(part).__name__ for part in SEEN.watched[number]
        ),
        grad=grad,
        at=at,
        by=caller(),
        index=SEEN.forwards,
        trains=any(p.requires_grad for p in parameters),
    )
    inputs = list(tensors_in([*args, *keywords.values()], torch))
    first = next((x for x in inputs if x.dim() > 0 and len(x)), None)
    if first is not None:
        event["shape"], event["type"] = list(first.shape), str(first.dtype).rpartition(".")[2]
        event["rows"] = row_prints(first, torch)
        if deep or SEEN.forwards <= KEPT_BATCHES:
            event["others"] = other_prints(first, inputs, torch)
        if deep or not grad:
            event["rich"] = rich(first, torch)
        before = SEEN.inputs.get(number)
        event["again"] = (before is not None and before() is first) or first._base is not None
        SEEN.inputs[number] = weakref.ref(first)
        SEEN.last_tokens = None if first.is_floating_point() else first.detach()
        if deep and first.is_floating_point():
            told = next((x for x in inputs if x.numel() and differs(x)), first)
            if told.is_floating_point():
                event["input"] = statistics(told, torch)
    if not grad:
        event["route"] = route()
    if not grad or not module.training:
        event["look"] = look(parameters)
        event["averages"] = averages(SEEN.watched[number])
        if SEEN.passes and SEEN.steps:
            SEEN.unlearned += 1
            SEEN.validating = SEEN.validating or SEEN.unlearned >= MIN_MEASURED
    SEEN.results = {t.untyped_storage().data_ptr() for t in tensors_in([output], torch)}
    for tensor in tensors_in([output], torch):
        if tensor.grad_fn is not None:
            tensor.grad_fn.metadata[MARK] = SEEN.forwards
    if grad and event.get("rows") and first is not None and not first.requires_grad:
        event["twin"] = twin(number, event, output, torch)
    SEEN.last_rows = labelled_rows(event, inputs, torch)
    SEEN.samples.last = None
    kept_all = SEEN.samples.counts.get((number, grad), 0) >= KEPT_BATCHES
    if event.get("rows") and not (kept_all and (SEEN.kept_batches.closed or not grad)):
        rows = whole_rows(event["rows"], inputs, torch)
        show(number, module, args, keywords, grad, rows, torch)
        if grad and not SEEN.kept_batches.closed:
            keep_forward(module, args, keywords, output, rows, torch)


def twin(number: int, event: dict[str, Any], output: Any, torch: Any) -> int:
    """The pass, since the last backward pass, of the same samples and with the same answers.

    The pass itself where the first half of its batch is its second half; 0 where there is none.
    """
    answer = next(
        (t for t in tensors_in([output], torch) if t.dim() and t.is_floating_point()), None
    )
    rows = event["rows"]
    if answer is None or len(set(rows)) < MIN_TWINS:
        return 0
    passes = SEEN.answers.setdefault(number, [])
    found = 0
    for other in passes:
        before = other["answer"]()
        if other["rows"] == rows and before is not None and before.shape == answer.shape:
            found = other["index"] if bool((before == answer).all()) else 0
    half = len(rows) // 2
    if rows[:half] == rows[half:] and len(answer) == 2 * half:
        found = event["index"] if torch.allclose(answer[:half], answer[half:], atol=1e-5) else 0
    if len(passes) < MAX_TWINS:
        passes.append({"rows": rows, "answer": weakref.ref(answer), "index": event["index"]})
    return found


@watching
def note_negative(result: Any, torch: Any) -> None:
    """A tensor that is not differentiated was negated: an advantage, as some losses have it."""
    if isinstance(result, torch.Tensor) and result.numel() > 1 and not result.requires_grad:
        SEEN.negatives[result.data_ptr()] = None
        while len(SEEN.negatives) > MAX_NEGATIVES:
            del SEEN.negatives[next(iter(SEEN.negatives))]


@watching
def note_log_probability(result: Any, args: Any, keywords: Any, torch: Any) -> None:
    """A distribution told the logarithm of a probability."""
    value = args[1] if len(args) > 1 else keywords.get("value")
    if isinstance(result, torch.Tensor) and result.grad_fn is not None:
        drawn = "moved" if isinstance(value, torch.Tensor) and value.requires_grad else "given"
        result.grad_fn.metadata[beside("signs").LOG_PROBABILITY] = drawn


@watching
def note_loss(name: str, args: Any, keywords: Any, result: Any, torch: Any) -> None:
    """A loss function was called."""
    tools = beside("arguments")
    given = tools.bound(getattr(torch.nn.functional, name), args, keywords)
    first, second = tools.NAMES.get(name, ("input", "target"))
    prediction, target = given.get(first), given.get(second)
    if not isinstance(prediction, torch.Tensor) or not isinstance(target, torch.Tensor):
        return
    event = SEEN.event(
        "loss",
        name=name,
        at=place(),
        shapes=[list(prediction.shape), list(target.shape)],
        grad=prediction.requires_grad or target.requires_grad,
        reduction=keywords.get("reduction", "mean"),
        plain=keywords.get("weight") is None and not keywords.get("label_smoothing"),
    )
    deep = SEEN.deep(SEEN.losses)
    SEEN.losses += 1
    if name in LOSSES and prediction.requires_grad and torch.is_grad_enabled():
        keep_loss(name, args or (prediction,), keywords, result, torch)
    note_target(target, torch)
    if name in CLASSIFYING and is_result(prediction):
        rows = SEEN.last_rows
        if target.dim() == 1 and len(target) == len(rows) and not target.is_floating_point():
            event["rows"], event["labels"] = rows, target.detach().tolist()
    if deep:
        if prediction.requires_grad and target.dim() and target.numel():
            event["target"] = zlib.crc32(repr(row_prints(target, torch)).encode())
        source, picked = origin(prediction)
        event["contract"] = {**tools.facts(name, given, source, torch), "picked": picked}
    if name in OTHER_LOSSES:
        return
    whole = not target.is_floating_point() and prediction.dim() > 1 and target.numel() > 0
    if name in CLASSIFYING and whole:
        ignored = keywords.get("ignore_index", -100)
        counted = target.detach()[target.detach() != ignored]
        event["classes"] = prediction.shape[1]
        if counted.numel():
            kinds, counts = torch.unique(counted, return_counts=True)
            event["kinds"], event["targets"] = len(kinds), int(counts.sum())
            event["low"], event["high"] = int(kinds.min()), int(kinds.max())
        if result.numel() == 1:
            event["value"] = float(result.detach())
        tokens = SEEN.last_tokens
        if tokens is not None and tokens.dim() == 2 and tokens.numel() == target.numel():
            event["copies"] = bool((tokens.reshape(-1) == target.detach().reshape(-1)).all())
    if deep and prediction.is_floating_point() and prediction.numel():
        event["prediction"] = statistics(prediction, torch)
        if name in LOGARITHMIC and prediction.dim() > 1:
            values = prediction.detach().float()
            sums = [float(values.logsumexp(d).abs().max()) for d in range(values.dim())]
            event["log_sums"] = sums


@watching
def note_drawn(generator: Any) -> None:
    """The script drew random numbers from a generator of its own between two steps."""
    if generator is None or not SEEN.steps:
        return
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HERE):
        frame = frame.f_back
    if is_theirs(frame.f_code.co_filename):
        SEEN.count("drawn with a generator", place())


@watching
def note_seed(seed: Any) -> None:
    """The random numbers begin anew."""
    SEEN.event("seed", seed=int(seed), at=place())


@watching
def note_dropout(_input: Any, p: float = 0.5, training: bool = True, *_rest: Any) -> None:
    """Dropout as a function, in a module that is in eval mode."""
    called_by = sys._getframe(3).f_code.co_filename
    of_a_module = called_by.endswith(os.path.join("nn", "modules", "dropout.py"))
    if training and p > 0 and SEEN.root is not None and not SEEN.root.training and not of_a_module:
        SEEN.count("dropout in eval", place())


@watching
def note_argmax(tensor: Any, dim: Any = None, *_rest: Any, **keywords: Any) -> None:
    """The index of the largest value of all rows together."""
    if dim is None and tensor.dim() == 2 and len(tensor) > 1:
        SEEN.count("argmax of all rows", place())
    note_largest(tensor, dim, keywords)


def note_largest(tensor: Any, dim: Any, keywords: Any) -> None:
    """The largest value of each output over the batch, in place of the largest output."""
    dim = keywords.get("axis", dim)
    if dim in (0, -2) and is_result(tensor) and tensor.dim() == 2 and min(tensor.shape) > 1:
        SEEN.count("largest over the batch", place())


@watching
def note_max(tensor: Any = None, dim: Any = None, *_rest: Any, **keywords: Any) -> None:
    """The largest value along a dimension."""
    if isinstance(keywords.get("dim", dim), int):
        note_largest(tensor, keywords.get("dim", dim), keywords)


def is_result(tensor: Any) -> bool:
    """Whether a tensor is what the last model returned, or a view of it."""
    return hasattr(tensor, "dim") and tensor.untyped_storage().data_ptr() in SEEN.results


@watching
def note_threshold(tensor: Any, other: Any = None, **_keywords: Any) -> None:
    """What a model returned is compared with one half, though it is no probability."""
    if isinstance(other, float) and other == 0.5 and is_result(tensor) and tensor.numel():
        values = tensor.detach()
        if bool(((values < 0) | (values > 1)).any()):
            SEEN.count("half of no probability", place())


@watching
def note_rounded(tensor: Any, **_keywords: Any) -> None:
    """What a model returned is rounded, though it is no probability."""
    if is_result(tensor) and tensor.is_floating_point() and tensor.numel():
        values = tensor.detach()
        if bool(((values < 0) | (values > 1)).any()):
            SEEN.count("half of no probability", place())
