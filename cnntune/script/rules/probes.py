"""What a copy of the model did with changed inputs, and what inputs and targets are like.

The numbers are those of `script/probes/` and `script/schedules.py`.
"""

from collections.abc import Mapping
from typing import Any

from cnntune.findings import Finding, Severity
from cnntune.script.record import Record

MIXED = 0.01  # share of the other samples whose answers change: in sound networks, none
MOVED = 0.2  # share of the samples whose answers change with their place
EARLY = 0.02  # share of the answers before the change
CHANNELS_LAST = 0.03  # by how much neighbours are more alike when read as height, width, channels
HALF = 0.5  # of it, at most, are they alike as they are read
ENDS = 0.15  # share of the pixels in the lowest and in the highest quarter
MIDDLE = 0.03  # share of them between
EXTREME = 0.2  # share of them that is the lowest or the highest value: images of two values
MIN_PAIRS = 30
AS_IT_IS = 0.75  # share of the masks that fit their images best as they are
MIN_ROWS = 32
SCALE = 3.0  # times the standard deviation of the training inputs
FAR_SCALE = 10.0
OFFSET = 1.5  # standard deviations between the means
MIN_ANSWERS = 150
BELOW_CHANCE = 0.4  # of the accuracy of a guess
APART = -0.2  # correlation
TOLD_APART = 0.5  # standard deviations between two kinds of pairs, of the distances of inputs
LOST = 0.3  # of it, of the distances of outputs: the loss takes away what the inputs told
MIN_COLUMNS = 3  # with fewer, a toy whose target is an input
PADDING = 0.15  # share of the targets
PADDED_ROWS = 0.5  # share of the rows that end so
MIN_STEPS = 60
NEVER = 0.1  # of what the schedule reaches later
EARLY_END = 0.5  # of the training, in which the learning rate is next to 0
MIN_EPOCHS = 4


def _probe(record: Record, name: str) -> Mapping[str, Any] | None:
    found = record.experiments.get("probes")
    result = found.get(name) if isinstance(found, Mapping) else None
    return result if isinstance(result, Mapping) else None


def _line(record: Record) -> str:
    return str(record.experiments["probes"].get("at", ""))


def samples_apart(record: Record) -> list[Finding]:
    """The answer for a sample must not depend on the other samples of its batch.

    In eval mode one sample of a batch is exchanged, and the answers for the others compared; then
    the batch is put into reverse order. They change where a layer takes the batch for time
    (`batch_first`), where `view` or `reshape` mixes samples, where a softmax, a norm or attention
    is over the batch, or where a positional encoding is added along it. Graphs, whose rows are
    nodes, are left out.
    """
    found = _probe(record, "mixed")
    if found is None or found["rows"] < 4:
        return []
    advice = "look for batch_first, for view or reshape in place of permute, for dim=0, and for"
    advice += " positions that are added along the batch"
    if found["others"] > MIXED and not found.get("unnormed"):
        text = f"in eval mode, exchanging one of {found['rows']} samples changes the answers for"
        text += f" {100 * found['others']:.0f} % of the others"
        return [Finding("samples-apart", "fail", text, advice, _line(record), found["others"])]
    if found["others"] > MIXED:
        text = "batch norm without running averages: in eval mode the answer for a sample depends"
        text += " on the others in its batch"
        return [Finding("samples-apart", "info", text, "", _line(record), found["others"])]
    if not found["others"] and found.get("moved", 0) > MOVED:
        text = "in eval mode, the answer for a sample depends on its place in the batch: in reverse"
        text += f" order {100 * found['moved']:.0f} % of the answers change"
        return [Finding("samples-apart", "fail", text, advice, _line(record), found["moved"])]
    return []


def future_hidden(record: Record) -> list[Finding]:
    """A model of what comes next must not see it.

    Where the targets are the inputs one step later, the second half of the inputs is changed: the
    answers for the first half must stay. They change without a causal mask, with one that is
    added as 0 and 1, or with layers that read in both directions; the loss then falls to what
    copying costs.
    """
    found = _probe(record, "future")
    if found is None or found["early"] <= EARLY or not found["late"]:
        return []
    text = "the targets are the next inputs, and the model sees them: changing the second half of"
    text += (
        f" sequences of {found['length']} changes {100 * found['early']:.0f} % of the answers in"
    )
    text += " the first half"
    advice = "mask the future: a boolean mask, or -inf above the diagonal; no layer that reads"
    advice += " backwards"
    return [Finding("future-hidden", "fail", text, advice, _line(record), found["early"], 0.0)]


def image_layout(record: Record) -> list[Finding]:
    """Neighbours in an image are alike.

    Images that are stored as height, width, channels need `permute(2, 0, 1)`. With `reshape` or
    `view` the shape is right and the pixels are not: values that were channels of one pixel become
    neighbours. Both readings are compared by how alike neighbours are. Bytes that wrap around, as
    in a subtraction in uint8, leave both ends of the range full and its middle empty.
    """
    found = _probe(record, "pictures")
    if found is None:
        return []
    where = _line(record)
    read, last = found.get("read", ()), found.get("last", ())
    if read and all(
        b > a + CHANNELS_LAST and a < HALF * b for a, b in zip(read, last, strict=True)
    ):
        text = f"read as {found['shape']} neighbours are less alike ({read[0]:.2f}, {read[1]:.2f})"
        text += f" than read as height, width, channels ({last[0]:.2f}, {last[1]:.2f})"
        advice = (
            "use permute(2, 0, 1) for images that are stored channels last, not reshape or view"
        )
        return [Finding("image-layout", "warn", text, advice, where, read[0], last[0])]
    wraps = "ends" in found and min(found["ends"]) > ENDS and found["middle"] < MIDDLE
    if wraps and max(found["extremes"]) < EXTREME:
        text = f"{100 * found['ends'][0]:.0f} % of the pixels are in the lowest quarter of their"
        text += f" range, {100 * found['ends'][1]:.0f} % in the highest and"
        text += f" {100 * found['middle']:.0f} % in the middle, of {found['levels']} levels:"
        text += " as after a wrap-around of bytes"
        advice = "convert to float before you subtract or add"
        return [Finding("image-layout", "warn", text, advice, where)]
    return []


def mask_follows_image(record: Record) -> list[Finding]:
    """A mask must be flipped with its image.

    Each mask is compared with its image as it is and mirrored, by values and by edges. Where many
    fit best mirrored, a random flip is applied to the one and not to the other. Masks are targets
    of whole numbers, or of 0 and 1, of a model that answers for each pixel; two views of an image
    are none.
    """
    found = _probe(record, "flips")
    if found is None or found["pairs"] < MIN_PAIRS or found["as_it_is"] >= AS_IT_IS:
        return []
    text = (
        f"{100 * (1 - found['as_it_is']):.0f} % of {found['pairs']} masks fit their images better"
    )
    text += " when they are mirrored"
    advice = "apply the same random flip to image and mask"
    line = _line(record)
    return [Finding("mask-follows-image", "fail", text, advice, line, found["as_it_is"], 1.0)]


def same_scale(record: Record) -> list[Finding]:
    """Training and validation inputs are prepared in the same way.

    Inputs that are scaled or normalized in one of the two sets only are another task for the
    network: what it is measured on is not what it learned.
    """
    found = _probe(record, "scales")
    if found is None or min(found["rows"]) < MIN_ROWS:
        return []
    (mean, spread), (other_mean, other_spread) = found["train"], found["validation"]
    if not spread > 0 or not other_spread > 0:
        return []
    ratio = max(spread / other_spread, other_spread / spread)
    offset = abs(mean - other_mean) / max(spread, other_spread)
    if ratio < SCALE and offset < OFFSET:
        return []
    text = f"training inputs have mean {mean:.3g} and standard deviation {spread:.3g}, validation"
    text += f" inputs {other_mean:.3g} and {other_spread:.3g}"
    advice = "prepare both sets with the same steps and the same statistics"
    severity: Severity = "fail" if ratio > FAR_SCALE else "warn"
    line = _line(record)
    return [Finding("same-scale", severity, text, advice, line, other_spread, spread)]


def target_hidden(record: Record) -> list[Finding]:
    """No input may be the target itself.

    A column that is the target but for a factor, or that is one number for each class, leaves
    nothing to learn: an identifier, a column that was computed from the label, a window that holds
    the value to be predicted.
    """
    found = _probe(record, "columns")
    if found is None or found["rows"] < MIN_ANSWERS or found["of"] < MIN_COLUMNS:
        return []
    text = f"column {found['column']} of {found['of']} inputs tells the target: {found['how']} in"
    text += f" all {found['rows']} samples"
    advice = "leave out what would not be known when the model is used"
    return [Finding("target-hidden", "warn", text, advice, _line(record))]


def inputs_used(record: Record) -> list[Finding]:
    """Each input of a model must have an effect.

    One argument at a time is exchanged between samples. Where no output changes in the last bit,
    the argument is not used: overwritten, masked out, or left out of a concatenation.
    """
    found = _probe(record, "unused")
    if found is None:
        return []
    names = ", ".join(found["names"])
    text = f"exchanging {names} between the samples changes nothing of what the model returns"
    advice = "see where forward() uses it"
    return [Finding("inputs-used", "warn", text, advice, _line(record))]


def padding_ignored(record: Record) -> list[Finding]:
    """Padding must not count in the loss.

    Where many rows of targets end in the same repeated value and `ignore_index` is another one, the
    network learns to predict padding, and the loss looks better than it is.
    """
    found = _probe(record, "padding")
    calls = [e for e in record.all("loss") if e["grad"] and e["name"] == "cross_entropy"]
    if found is None or not calls or found["share"] < PADDING or found["rows"] < PADDED_ROWS:
        return []
    ignored = {e["contract"].get("ignore_index") for e in calls if "contract" in e}
    if found["value"] in ignored or not all(event["plain"] for event in calls):
        return []
    text = f"{100 * found['share']:.0f} % of the targets are {found['value']} at the end of their"
    text += " rows, as padding is, and count in the loss"
    advice = f"pass ignore_index={found['value']} to cross_entropy"
    where = calls[-1]["at"]
    return [Finding("padding-ignored", "warn", text, advice, where, found["share"])]


def loss_goal(record: Record) -> list[Finding]:
    """A lower loss must mean better answers.

    After the steps that were seen the outputs are compared with the labels or the target images of
    the training batches. Answers that are right less often than a guess, or outputs that are
    opposite to their targets, are what a wrong sign or inverted labels in the loss train for. The
    same holds for networks of pairs: where two kinds of pairs differ in how near their inputs are,
    the outputs must not lose that.
    """
    if record.steps < MIN_STEPS:
        return []
    found = _probe(record, "agreement")
    line = _line(record) if found is not None or _probe(record, "pairs") else ""
    if found and "accuracy" in found and found["rows"] >= MIN_ANSWERS:
        guess = 1 / found["classes"]
        error = (guess * (1 - guess) / found["rows"]) ** 0.5
        if found["accuracy"] < min(BELOW_CHANCE * guess, guess - 5 * error):
            text = f"after {record.steps} steps the largest output is the label of"
            text += (
                f" {100 * found['accuracy']:.1f} % of {found['rows']} training samples, less than"
            )
            text += f" the {100 * guess:.0f} % of a guess"
            advice = "see whether the loss has the wrong sign, or labels are inverted"
            return [Finding("loss-goal", "warn", text, advice, line, found["accuracy"], guess)]
    if found and found.get("correlation", 0.0) < APART:
        text = f"after {record.steps} steps outputs and target images are opposite: their"
        text += f" correlation is {found['correlation']:.2f}"
        advice = "see whether the loss has the wrong sign, or targets are inverted"
        return [Finding("loss-goal", "warn", text, advice, line, found["correlation"])]
    twins = _probe(record, "pairs")
    if not twins or twins["pairs"] < MIN_ANSWERS or abs(twins["inputs"]) < TOLD_APART:
        return []
    if twins["outputs"] / twins["inputs"] >= LOST:
        return []
    text = "two kinds of pairs differ in the distance of their inputs by"
    text += f" {twins['inputs']:.2f} standard deviations, and after {record.steps} steps in"
    text += f" that of their outputs by {twins['outputs']:.2f}"
    advice = "see whether equal and different pairs, or positives and negatives, are swapped in"
    advice += " the loss"
    return [Finding("loss-goal", "warn", text, advice, line, twins["outputs"])]


def schedule_length(record: Record) -> list[Finding]:
    """A schedule must be as long as the training.

    The scheduler is copied and stepped to the end of the epochs that the script names, as often as
    the script steps it. A warm-up that is counted in steps and stepped per epoch never ends; a
    decay that is counted in epochs and stepped per batch is over at once.
    """
    found = []
    for plan in record.experiments.get("schedules") or []:
        if plan["epochs"] < MIN_EPOCHS:
            continue
        pace = "each step" if plan["per_step"] else "each epoch"
        if plan["highest"] < NEVER * plan["at_last"]:
            text = f"{plan['name']}, stepped at {pace}, reaches {plan['highest']:.2g} in"
            text += f" {plan['epochs']} epochs; it would reach {plan['at_last']:.2g} later: the"
            text += " warm-up never ends"
            advice = "count warm-up and scheduler.step() alike, in steps or in epochs"
            line = plan["at"]
            found.append(Finding("schedule-length", "fail", text, advice, line, plan["highest"]))
        elif plan["ends_at"] is not None and plan["ends_at"] < EARLY_END:
            text = f"{plan['name']}, stepped at {pace}, is next to 0 after"
            text += (
                f" {100 * plan['ends_at']:.0f} % of the {plan['epochs']} epochs, and stays there"
            )
            advice = "give it the length of the training, in what it is stepped by"
            found.append(Finding("schedule-length", "warn", text, advice, plan["at"]))
    return found
