"""What the loss is computed from, and what is done to it before it is differentiated."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from cnntune.findings import Finding, Severity
from cnntune.script.record import Event, Record

USUAL = 0.8  # share of the passes that makes a habit
NORMALIZED = 0.05  # of the logarithm of a sum that should be 1: label smoothing, rounding
MIN_CALLS = 3  # of a loss function
PAIRS: dict[
    str, tuple[str, str, Severity]
] = {  # what enters a loss: what was found, what to do, how severe
    "LogSoftmax<Softmax": (
        "cross-entropy of a softmax: it applies the softmax itself, so that the loss cannot"
        " approach 0",
        "return logits, without the softmax",
        "fail",
    ),
    "LogSoftmax<Sigmoid": (
        "cross-entropy of a sigmoid: logits between 0 and 1 cannot say that a class is certain",
        "return logits, without the sigmoid",
        "fail",
    ),
    "LogSoftmax<Relu": (
        "cross-entropy of a ReLU: no logit can be negative, and a dead one does not learn",
        "return logits, without the ReLU after the last layer",
        "warn",
    ),
    "LogSoftmax<Tanh": (
        "cross-entropy of a tanh: logits between -1 and 1 cannot say that a class is certain",
        "return logits, without the tanh",
        "warn",
    ),
    "NllLoss<Softmax": (
        "nll_loss of probabilities: it takes their logarithm as given",
        "use log_softmax, or cross_entropy of the logits",
        "fail",
    ),
    "NllLoss2D<Softmax": (
        "nll_loss of probabilities: it takes their logarithm as given",
        "use log_softmax, or cross_entropy of the logits",
        "fail",
    ),
    "NllLoss<Addmm": (
        "nll_loss of logits: without log_softmax it falls without end",
        "use cross_entropy of the logits",
        "fail",
    ),
    "NllLoss<Convolution": (
        "nll_loss of logits: without log_softmax it falls without end",
        "use cross_entropy of the logits",
        "fail",
    ),
    "NllLoss2D<Convolution": (
        "nll_loss of logits: without log_softmax it falls without end",
        "use cross_entropy of the logits",
        "fail",
    ),
    "BinaryCrossEntropyWithLogits<Sigmoid": (
        "binary_cross_entropy_with_logits of a sigmoid: it applies the sigmoid itself",
        "return logits, or use binary_cross_entropy",
        "fail",
    ),
    "BinaryCrossEntropyWithLogits<Softmax": (
        "binary_cross_entropy_with_logits of a softmax: it applies a sigmoid itself",
        "return logits",
        "fail",
    ),
}
ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


def loss_input(record: Record) -> list[Finding]:
    """A loss function must get what it expects: logits, log-probabilities or probabilities.

    `cross_entropy` and `binary_cross_entropy_with_logits` apply softmax and sigmoid themselves;
    `nll_loss` expects the result of `log_softmax`. What enters the loss is read from the autograd
    graph. (PyTorch documentation of the losses; CS231n step 2.)
    """
    found = []
    for pair, (text, advice, severity) in PAIRS.items():
        events = [event for event in record.walked if pair in event["pairs"]]
        if len(events) >= min(MIN_CALLS, len(record.walked)) and events:
            where = _line_of_loss(record, events[-1])
            found.append(Finding("loss-input", severity, text, advice, where))
    return found


def _line_of_loss(record: Record, backward: Event) -> str:
    """The line of the last loss function before a backward pass."""
    where = str(backward["at"])
    for event in record.events:
        if event is backward:
            break
        if event["k"] == "loss" and event["grad"]:
            where = event["at"]
    return where


def loss_shapes(record: Record) -> list[Finding]:
    """Predictions and targets must have the same shape.

    `mse_loss` of `[N, 1]` and `[N]` compares each prediction with all targets: the best answer is
    then their mean. PyTorch warns once, and goes on.
    """
    found = {}
    for event in record.all("loss"):
        first, second = event["shapes"]
        scalar = not first or not second or all(n == 1 for n in second)
        if event["name"] in ELEMENTWISE and event["grad"] and first != second and not scalar:
            leading = len(first) != len(second) and first[-len(second) :] == second
            # [N, 1] and [N] spread over each other; a target for each of an ensemble does not.
            spread = not leading or (len(second) == 1 and first[0] == second[0])
            text = f"{event['name']} of shapes {first} and {second}: they are broadcast"
            advice = "give both the same shape: squeeze(1) the one, or unsqueeze(1) the other"
            severity: Severity = "fail" if spread else "info"
            found[event["at"]] = Finding("loss-shapes", severity, text, advice, event["at"])
    known = {finding.severity for finding in found.values()}
    events = [event for event in record.walked if event.get("spread")]
    if "fail" not in known and len(events) >= min(MIN_CALLS, len(record.walked)) > 0:
        event = events[-1]
        first, both = event["spread"][0]
        text = f"a prediction of shape {first} becomes {both} in the loss: it is broadcast against"
        text += " targets of another shape, each prediction against all targets"
        advice = "give both the same shape: squeeze(1) the one, or unsqueeze(1) the other"
        found["graph"] = Finding("loss-shapes", "fail", text, advice, event["at"])
    return list(found.values())


def log_probabilities(record: Record) -> list[Finding]:
    """`nll_loss` and `kl_div` take logarithms of probabilities, which sum to 1 over the classes.

    The exponentials of what they get are summed. `log_softmax` over the batch, or probabilities
    without the logarithm, do not sum to 1 over the classes, and the loss has no lower end at the
    right answer. (PyTorch documentation of both.)
    """
    found = {}
    for name, dims in (("nll_loss", (1,)), ("kl_div", None)):
        calls = [
            e for e in record.all("loss") if e["name"] == name and e["grad"] and "log_sums" in e
        ]
        wrong = [e for e in calls if not _normalized(e["log_sums"], dims)]
        if len(wrong) < MIN_CALLS or len(wrong) <= USUAL * len(calls):
            continue
        event = wrong[-1]
        over = next((d for d, total in enumerate(event["log_sums"]) if total < NORMALIZED), None)
        text = f"{name} gets no log-probabilities: their exponentials do not sum to 1 over the"
        text += " classes" if over is None else f" classes, but over dimension {over}"
        positive = "prediction" in event and event["prediction"]["min"] >= 0
        text += "; it gets values of 0 and more, as probabilities are" if positive else ""
        advice = "give it F.log_softmax(logits, dim=1)"
        found[name] = Finding("log-probabilities", "fail", text, advice, event["at"])
    return list(found.values())


def _normalized(sums: Sequence[float], dims: Sequence[int] | None) -> bool:
    chosen = sums if dims is None else [sums[d] for d in dims]
    return min(chosen) < NORMALIZED


def accumulation(record: Record) -> list[Finding]:
    """The loss of each micro-batch must be divided by their number, once.

    Gradients of several backward passes are added. Undivided, k of them make a step that is k times
    as long as for one batch of the same images; divided twice, one that is k times as short.
    """
    found = []
    for number, steps in record.by_optimizer.items():
        counted = [step for step in steps[1:-1] if step["back"]]
        sizes = Counter(len(step["back"]) for step in counted)
        if len(counted) < MIN_CALLS or not sizes:
            continue
        most, times = sizes.most_common(1)[0]
        if most < 2 or times <= USUAL * len(counted):
            continue
        step = next(step for step in reversed(counted) if len(step["back"]) == most)
        backs = [record.events[index] for index in step["back"]]
        sets = {event["leaves"] for event in backs if "leaves" in event}
        if len({event["at"] for event in backs}) > 1 or len(sets) > 1:
            continue  # several losses
        if any(event.get("scaled") for event in backs) or record.framework == "lightning":
            continue  # the factor of mixed precision is among the constants
        total = sum(event.get("factor", 1.0) for event in backs)
        clips = any(event["k"] == "clip" for event in record.events)
        name = record.class_of(number)
        if most >= 3 and abs(total - most) < 0.01 * most and not clips and not _one_sample(record):
            text = (
                f"{most} backward passes per step of {name}, and the loss is not divided by {most}"
            )
            advice = f"divide the loss by {most}, unless the sum is meant"
            found.append(Finding("accumulation", "warn", text, advice, backs[-1]["at"], total, 1.0))
        elif most >= 3 and total * _summed(record, backs[-1]["at"]) < 1.6 / most:
            text = f"{most} backward passes per step, each of a loss that is multiplied by"
            text += f" {total / most:.3g}: divided twice"
            advice = f"divide the loss by {most} once (accelerate and Lightning do it themselves)"
            found.append(Finding("accumulation", "fail", text, advice, backs[-1]["at"], total, 1.0))
    return found


def _summed(record: Record, at: str) -> float:
    """How many values the losses of a line are sums of; infinite where that is not known.

    A sum over a micro-batch of b samples is divided by k * b: the mean over the whole batch.
    """
    counts = [e.get("summed", 1.0) for e in record.walked if e["at"] == at]
    return max((math.inf if count is None else count for count in counts), default=1.0)


def _one_sample(record: Record) -> bool:
    """Whether the passes are of single samples, whose sum is a batch's loss on purpose."""
    sizes = [event["shape"][0] for event in record.training_forwards if "shape" in event]
    return bool(sizes) and statistics.median(sizes) <= 1


def mixed_precision(record: Record) -> list[Finding]:
    """With a gradient scaler, `scaler.step(optimizer)` steps and `scaler.update()` follows.

    `optimizer.step()` uses gradients that are multiplied by up to 65,536, and steps also where
    they are not finite. (PyTorch documentation of automatic mixed precision.)
    """
    steps = record.all("step")
    wrong = [step for step in steps if step["scaled"] and not step["scaler"]]
    if len(wrong) >= MIN_CALLS and len(wrong) > USUAL * len(steps):
        text = f"the loss is scaled, and optimizer.step() was called {len(wrong)} times by itself"
        advice = "call scaler.step(optimizer) and scaler.update()"
        return [Finding("mixed-precision", "fail", text, advice, wrong[-1]["at"])]
    by_scaler = [step for step in steps if step["scaler"]]
    if len(by_scaler) >= MIN_STEPS_OF_SCALER and not record.counts.get("scaler updated"):
        text = f"scaler.step() was called {len(by_scaler)} times, and scaler.update() never"
        where = by_scaler[-1]["at"]
        advice = "call scaler.update() after scaler.step()"
        return [Finding("mixed-precision", "warn", text, advice, where)]
    return []


MIN_STEPS_OF_SCALER = 10


def clipping(record: Record) -> list[Finding]:
    """Gradients are clipped after `backward()` and before `step()`, unscaled.

    After the step, or before the backward pass, clipping has no effect. Scaled gradients are longer
    than any limit, so that each step would have the same length.
    """
    clips = record.all("clip")
    if len(clips) < MIN_CALLS:
        return []
    where = clips[-1]["at"]
    useless = [clip for clip in clips[1:] if not clip["fresh"]]
    if len(useless) > USUAL * len(clips[1:]):
        text = f"{len(useless)} of {len(clips)} times, gradients were clipped while there were no"
        text += " new ones: after the step, or before backward()"
        advice = "clip between backward() and step()"
        return [Finding("clipping", "fail", text, advice, where)]
    scaled = [clip for clip in clips if clip["scaled"]]
    if len(scaled) > USUAL * len(clips):
        text = "gradients are clipped while they are multiplied by the scaler's factor"
        advice = "call scaler.unscale_(optimizer) before the clipping"
        return [Finding("clipping", "fail", text, advice, where)]
    return []
