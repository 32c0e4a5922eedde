"""What `sanity` checks in a recipe, on the batches, logits, losses and gradients that were seen."""

import math
import statistics

from cnntune.findings import Finding, Severity
from cnntune.script.record import Event, Record

FAR = 2.0  # times log C: an initial loss of logits that are confident before anything is learned
VERY_FAR = 10.0  # times log C
SLACK = 0.5  # nats; two classes have a log C of 0.69
UNSCALED = 30.0  # standard deviation of inputs: pixels of 0 to 255 have about 70
MIN_STEPS = 60  # before a loss is called stuck
STUCK = 0.01  # nats from log C, and between its first and last third
LEARNED = 0.9  # of the loss without the inputs, on held-out samples
EXPLODED = 1e4  # gradient norm at the first step


def _classifying(record: Record) -> list[Event]:
    """Calls of cross-entropy while training, of a mean over whole targets."""
    return [
        event
        for event in record.all("loss")
        if event["grad"]
        and event.get("value") is not None
        and event.get("classes", 0) > 1
        and event["reduction"] == "mean"
        and event["name"] == "cross_entropy"
    ]


def finite_loss(record: Record) -> list[Finding]:
    """The loss must stay finite.

    NaN in one step is NaN in all weights from there on. Its causes are a learning rate that is too
    high, a logarithm or a root of 0, a division by 0, or inputs that are not finite.
    """
    for event in record.all("backward"):
        loss = event.get("loss")
        if loss is not None and not math.isfinite(loss):
            if event.get("scaled"):
                continue
            text = f"the loss is {loss} at step {event['n']}"
            advice = "lower the learning rate; look for log(0), sqrt(0) and a division by 0"
            return [Finding("finite-loss", "fail", text, advice, event["at"])]
    return []


def initial_loss(record: Record) -> list[Finding]:
    """The first cross-entropy of a network that knows nothing is log C.

    More means logits that are confident before anything was learned: inputs that are not
    normalized, or an initialization that is too large. (CS231n step 1.)
    """
    calls = _classifying(record)
    if not calls or not calls[0]["plain"] or calls[0]["n"] > 0:
        return []
    first = calls[0]
    expected = math.log(first["classes"])
    value = first["value"]
    if not math.isfinite(value) or value <= FAR * expected + SLACK:
        return []
    severity: Severity = "fail" if value > VERY_FAR * expected else "warn"
    text = f"the first loss is {value:.3g}, log({first['classes']}) = {expected:.3g}"
    if "prediction" in first:
        text += f"; the logits have a standard deviation of {first['prediction']['std']:.3g}"
    advice = "normalize the inputs; initialize the last layer with small weights"
    return [Finding("initial-loss", severity, text, advice, first["at"], value, expected)]


def stuck_loss(record: Record) -> list[Finding]:
    """The loss must leave log C.

    A loss that stays there is that of a network whose answer does not depend on its input: no
    gradient arrives, the rate is far too low, or labels do not belong to their images.
    """
    calls = _classifying(record)
    if len(calls) < MIN_STEPS or len({event["classes"] for event in calls}) > 1:
        return []
    values = [event["value"] for event in calls]
    if not all(map(math.isfinite, values)):
        return []
    third = len(values) // 3
    first, last = statistics.fmean(values[:third]), statistics.fmean(values[-third:])
    expected = math.log(calls[0]["classes"])
    if abs(first - expected) > 0.05 * expected or abs(last - expected) > STUCK * expected:
        return []
    if abs(first - last) > STUCK * expected:
        return []
    text = f"the loss is log({calls[0]['classes']}) = {expected:.3g} and did not move in"
    text += f" {len(values)} steps: {first:.4g} at first, {last:.4g} at last"
    advice = "try other rates with lr-sweep; see that inputs and labels belong together"
    return [Finding("stuck-loss", "warn", text, advice, calls[-1]["at"], last, expected)]


def first_gradients(record: Record) -> list[Finding]:
    """The first gradient is neither 0 nor huge."""
    found = []
    for number, steps in record.by_optimizer.items():
        norm = steps[0].get("norm")
        if norm is None or steps[0]["scaled"] or steps[0]["scaler"]:
            continue
        if not math.isfinite(norm):
            text = f"{record.class_of(number)}: the gradient of the first step is not finite"
            advice = "look for log(0), sqrt(0) and a division by 0 in model and loss"
            found.append(Finding("first-gradients", "fail", text, advice, steps[0]["at"]))
        elif norm > EXPLODED and _classifying(record):
            text = f"{record.class_of(number)}: the gradient of the first step has norm {norm:.2g}"
            advice = "normalize the inputs; initialize with smaller weights"
            found.append(Finding("first-gradients", "warn", text, advice, steps[0]["at"], norm))
    return found


def inputs(record: Record) -> list[Finding]:
    """Inputs are finite, differ from each other, and have a scale near 1.

    Networks are initialized for inputs of mean 0 and standard deviation 1; pixels of 0 to 255
    make activations 100 times as large. (CS231n: data preprocessing.)
    """
    seen = [event for event in record.training_forwards if "input" in event]
    if not seen:
        return []
    where = seen[0]["at"]
    bad = [event for event in seen if not event["input"]["finite"]]
    if bad:
        text = f"an input at step {bad[0]['n']} holds NaN or infinity"
        return [Finding("inputs", "fail", text, "clean the data", bad[0]["at"])]
    if len(seen) >= 3 and all(event["input"]["std"] == 0 for event in seen):
        text = f"all inputs are {seen[0]['input']['mean']:.3g}"
        return [Finding("inputs", "fail", text, "see how the inputs are read and scaled", where)]
    first = seen[0]["input"]
    deviations = [event["input"]["std"] for event in seen]
    if statistics.median(deviations) > UNSCALED:
        text = f"inputs have mean {first['mean']:.3g} and standard deviation {first['std']:.3g}"
        advice = "scale them to mean 0 and standard deviation 1; divide pixels by 255"
        severity: Severity = "info" if _learned(record) else "warn"
        return [Finding("inputs", severity, text, advice, where, first["std"], 1.0)]
    return []


def _learned(record: Record) -> bool:
    """Whether script and copies learned from such inputs, as where batch norm comes first."""
    found = record.experiments.get("learned") or {}
    losses = [event.get("loss") for event in record.all("backward")]
    finite = all(loss is None or math.isfinite(loss) for loss in losses)
    if found and found.get("held_own", 0.0) > LEARNED * found.get("held_others", math.inf):
        return False  # losses in the hundreds, which differ by chance
    return bool(found) and finite and found["real_held"] < LEARNED * found["blank_held"]


def labels(record: Record) -> list[Finding]:
    """Labels are of more than one class, and there are as many outputs as classes."""
    calls = _classifying(record)
    counted = [event for event in calls if event.get("targets", 0) > 0]
    if len(counted) < 5:
        return []
    total = sum(event["targets"] for event in counted)
    low, high = min(e["low"] for e in counted), max(e["high"] for e in counted)
    where = counted[0]["at"]
    if low == high and total >= 64:
        text = f"all {total} labels that were seen are {low}"
        return [Finding("labels", "fail", text, "see how the labels are read", where)]
    classes = counted[0]["classes"]
    tokens = any(len(event["shapes"][1]) > 1 for event in counted)
    if not tokens and low == 1 and high == classes - 1 and classes > 2 and total > 50 * classes:
        text = f"labels are 1 to {high} with {classes} outputs: no label is 0"
        advice = "count labels from 0, and give the model one output per class"
        return [Finding("labels", "info", text, advice, where)]
    return []
