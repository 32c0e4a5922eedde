"""Whether gradients get from the loss to the step: once each, and all of them."""

from collections import Counter
from collections.abc import Iterable

from cnntune.findings import Finding, Severity
from cnntune.script.record import Event, Record

MIN_STEPS = 4  # of an optimizer, before its habit is judged
USUAL = 0.8  # share of the steps that makes a habit
MIN_LOST = 2  # results that are cleared per step: two of three micro-batches
MIN_LOOKED = 10  # steps at which gradients were looked at one by one
MIN_BACKWARDS = 8  # without a step, before a step is missed


def missing_zero_grad(record: Record) -> list[Finding]:
    """Gradients must be cleared between two steps of an optimizer.

    `backward()` adds to `.grad`. Without `optimizer.zero_grad()` each step follows the sum of all
    gradients so far: the step grows with time and points to where the loss was steep long ago.
    (PyTorch documentation of `Optimizer.zero_grad`; PyTorch issue 47175.)
    """
    found = []
    for number, steps in record.by_optimizer.items():
        later = [step for step in steps[1:] if step["back"]]
        dirty = [step for step in later if not step["cleared"]]
        if len(later) >= MIN_STEPS and len(dirty) > USUAL * len(later):
            text = (
                f"{record.class_of(number)}: gradients were not cleared before {len(dirty)} of"
                f" {len(later)} steps, so that each step uses the sum of all gradients before it"
            )
            advice = "call optimizer.zero_grad() before each backward()"
            found.append(Finding("missing-zero-grad", "fail", text, advice, steps[-1]["at"]))
    return found


def cleared_gradients(record: Record) -> list[Finding]:
    """Gradients must not be cleared between `backward()` and `step()`.

    A `zero_grad()` there leaves nothing to step with; inside a loop that accumulates gradients it
    leaves those of the last batch; between the `backward()` of two losses it leaves those of the
    second, and what only the first one trains never changes. Weights that move between two backward
    passes (SAM), and passes from different lines (the two losses of a GAN), are meant.
    """
    found = []
    for steps in record.by_optimizer.values():
        judged = steps[1:] if len(steps) > MIN_STEPS else steps
        if len(steps) < MIN_STEPS:
            continue
        empty = [s for s in judged if s["lost"] and _is_empty(s) and not s["back"]]
        if len(empty) > USUAL * len(judged):
            text = f"gradients were cleared between backward() and step(), at {len(empty)} steps"
            advice = "call zero_grad() before backward(), or after step()"
            where = _clear_before(record, empty[-1]) or steps[-1]["at"]
            found.append(Finding("cleared-gradients", "fail", text, advice, where))
            continue
        wasteful = [step for step in judged if _lost_of_same_line(record, step) >= MIN_LOST]
        if len(wasteful) > USUAL * len(judged):
            lost = _lost_of_same_line(record, wasteful[-1])
            text = (
                f"{lost + 1} backward passes per step, but gradients are cleared between them:"
                " only the last one counts"
            )
            advice = "call zero_grad() once after each step(), not for each micro-batch"
            where = _clear_before(record, wasteful[-1]) or steps[-1]["at"]
            found.append(Finding("cleared-gradients", "fail", text, advice, where))
            continue
        unused = _never_used(record, steps)
        if unused:
            text = (
                f"{record.names(unused)}: a backward pass computes gradients, and they are cleared"
            )
            text += " before each step"
            advice = "call zero_grad() once per step, before the first backward(); add the losses"
            where = _clear_before(record, steps[-1]) or steps[-1]["at"]
            found.append(Finding("cleared-gradients", "fail", text, advice, where))
    return found


def _never_used(record: Record, steps: list[Event]) -> list[int]:
    """Parameters that only backward passes reach whose gradients no step has left."""
    used = _reached(record, (index for step in record.all("step") for index in step["back"]))
    lost = _reached(record, (index for step in steps for index in step["lost"])) - used
    entries = {number: record.parameters.get(str(number)) for number in sorted(lost & record.held)}
    return [
        number
        for number, entry in entries.items()
        if entry is not None and entry["none"] + entry["zero"] == entry["looked"] >= MIN_LOOKED
    ]


def _reached(record: Record, backwards: Iterable[int]) -> frozenset[int]:
    """The parameters below these backward passes, of those whose graph was followed."""
    events = (record.events[index] for index in backwards)
    return frozenset().union(*(record.leaves(event) for event in events if "leaves" in event))


def _is_empty(step: Event) -> bool:
    return step["none"] == step["of"] or ("norm" in step and step["norm"] == 0)


def _lost_of_same_line(record: Record, step: Event) -> int:
    """How many results were cleared that come from the line of the result that is used."""
    if not step["back"]:
        return 0
    kept = record.events[step["back"][-1]]
    lost = [record.events[index] for index in step["lost"]]
    same = [e for e in lost if e["at"] == kept["at"] and e["n"] == kept["n"]]
    return len(same) if len({e.get("factor") for e in [kept, *same]}) == 1 else 0


def _clear_before(record: Record, step: Event) -> str:
    """The line of the last clearing before a step."""
    where = ""
    for event in record.events:
        if event is step:
            break
        if event["k"] == "clear":
            where = event["at"]
    return where


def never_stepped(record: Record) -> list[Finding]:
    """Some optimizer must step after the gradients were computed.

    Without `optimizer.step()` the loss stays where it was. Weights that the script changes by
    itself are meant, and reported as such.
    """
    backwards = record.all("backward")
    if len(backwards) < MIN_BACKWARDS or record.by_optimizer:
        return []
    where = Counter(event["at"] for event in backwards).most_common(1)[0][0]
    if record.moved:
        text = "the weights change without a step of a torch optimizer: few rules can be applied"
        return [Finding("never-stepped", "info", text, where=where)]
    text = f"{len(backwards)} backward passes and no step of an optimizer: nothing is learned"
    return [Finding("never-stepped", "fail", text, "call optimizer.step() after backward()", where)]


def missing_gradients(record: Record) -> list[Finding]:
    """Each parameter of an optimizer should get a gradient.

    One whose gradient stays None is not part of what the loss is computed from: a layer that
    `forward` does not call, a tensor that was detached, a `.item()` or `.numpy()` on the way. One
    whose gradient is exactly 0 is reached, and has no effect.
    """
    looked = {
        int(number): entry
        for number, entry in record.parameters.items()
        if entry["looked"] >= MIN_LOOKED
    }
    # A result of `torch.autograd.grad` leaves no trace in `.grad`, so a loss has to be seen.
    if not looked or not record.trained & record.held:
        return []
    none = [number for number, e in looked.items() if e["none"] == e["looked"]]
    none = [number for number in none if number not in record.trained]
    zero = [n for n, e in looked.items() if e["zero"] >= e["looked"] > 0]
    where = record.all("optimizer")[-1]["at"] if record.all("optimizer") else ""
    found = []
    if none:
        all_of_them = len(none) == len(looked)
        text = f"{record.names(none)}: no gradient at any of {looked[none[0]]['looked']} steps"
        advice = (
            "see that the loss is computed from these parameters: no detach(), no .item(), and"
            " forward() calls the layer; set requires_grad = False where they are to stay"
        )
        large = sum(looked[n]["size"] for n in none) > 0.2 * sum(e["size"] for e in looked.values())
        severity: Severity = "fail" if all_of_them or large else "warn"
        found.append(Finding("missing-gradients", severity, text, advice, where))
    matrices = [n for n in zero if looked[n]["size"] > 1]
    if len(matrices) > 0.2 * len(looked) and len(matrices) >= 2:
        text = f"{record.names(matrices)}: the gradient is exactly 0 at all steps that were seen"
        advice = "look for dead units, a multiplication by 0, or an output that does not matter"
        severity = "fail" if len(zero) == len(looked) else "warn"
        found.append(Finding("missing-gradients", severity, text, advice, where))
    return found


def loss_graph(record: Record) -> list[Finding]:
    """A loss must be computed from the parameters.

    `requires_grad_()` on a loss that was detached, or made from a number, silences the error of
    `backward()`: the gradient then ends at the loss itself.
    """
    backwards = record.all("backward")
    leaf = [event for event in backwards if event["leaf"]]
    if len(leaf) < MIN_STEPS or len(leaf) <= USUAL * len(backwards):
        return []
    text = f"backward() was called {len(leaf)} times on a tensor that no parameter leads to"
    advice = "compute the loss from the model's output; remove requires_grad_() and .detach()"
    return [Finding("loss-graph", "fail", text, advice, leaf[-1]["at"])]


def kept_graphs(record: Record) -> list[Finding]:
    """A loss that is kept for printing keeps its whole graph.

    `total += loss` or `losses.append(loss)` holds the activations' graph of each step, so that
    memory grows until it is used up. `loss.item()` keeps the number alone.
    """
    counts = [event for event in record.all("kept") if event["of"] >= 20]
    if not counts or counts[-1]["alive"] < USUAL * counts[-1]["of"]:
        return []
    last = counts[-1]
    text = f"the graphs of {last['alive']} of {last['of']} losses are still in memory"
    advice = "add loss.item() or loss.detach() to totals and lists"
    where = record.all("backward")[-1]["at"]
    return [Finding("kept-graphs", "warn", text, advice, where)]
