"""What optimizers hold, how often they are made, and how fast they step."""

from collections import Counter

from cnntune.findings import Finding
from cnntune.script.record import Event, Record

MIN_STEPS = 10  # with a learning rate of 0: longer than the first step of a warm-up
COLLAPSED = 1e-3  # of the first learning rate: nothing is learned from there on
EARLY = 1 / 3  # of the steps that were seen
SLOW = 5  # times fewer steps of the scheduler than of the optimizer
MIN_SINCE = 5  # backward passes looked at closely since a parameter was there first
FROZEN = 0.3  # share of the weights
MADE_ANEW = 3  # times with the same parameters


def optimizer_parameters(record: Record) -> list[Finding]:
    """The optimizer must hold the parameters that the loss is computed from.

    It holds others where it was made before the model was replaced, loaded, or wrapped, or from
    another model, or where layers are in a plain list, in which `parameters()` does not see them.
    (PyTorch issues 14467 and 59925.)
    """
    if not record.by_optimizer or not record.walked:
        return []
    outside = Counter(n for event in record.walked for n in record.leaves(event) - record.held)
    usual = [n for n, count in outside.items() if _usual(record, n, count)]
    where = record.all("optimizer")[-1]["at"] if record.all("optimizer") else ""
    if record.trained and not record.trained & record.held:
        text = "no parameter that the loss is computed from is in an optimizer"
        advice = "make the optimizer from the parameters of the model that is trained, after it"
        return [Finding("optimizer-parameters", "fail", text, advice, where)]
    if usual:
        text = f"{record.names(sorted(usual))}: trained by the loss, but in no optimizer"
        advice = (
            "pass them to the optimizer (layers in a list belong into nn.ModuleList), or set"
            " requires_grad = False if they are to stay as they are"
        )
        return [Finding("optimizer-parameters", "fail", text, advice, where)]
    if len(outside) > 0.5 * len(record.trained) and len(record.walked) >= 5:
        text = "parameters are made anew at each step, and are in no optimizer"
        advice = "make layers in __init__, not in forward()"
        where = record.walked[-1]["at"]
        return [Finding("optimizer-parameters", "fail", text, advice, where)]
    return []


def _usual(record: Record, number: int, count: int) -> bool:
    """Whether a parameter is below most losses; since it is there, as where a head was replaced."""
    walked = record.walked
    first = next(i for i, event in enumerate(walked) if number in record.leaves(event))
    since = len(walked) - first
    return count > 0.8 * since and (not first or since >= MIN_SINCE)


def frozen_weights(record: Record) -> list[Finding]:
    """What is frozen should have been trained before.

    The weights of torch's layers begin evenly spread between two bounds, which training undoes.
    Frozen in that state they are random features: a condition that is the wrong way round, or
    weights that were never loaded. Random features are sometimes meant.
    """
    found = []
    for number in sorted(record.trained_models):
        entries = record.models.get(str(number), {}).get("frozen") or []
        idle = [entry for entry in entries if entry[0] not in record.trained]
        fresh = [entry for entry in idle if entry[3]]
        size = sum(entry[2] for entry in fresh)
        trained = sum(
            record.parameters[str(n)]["size"] for n in record.trained if str(n) in record.parameters
        )
        if not fresh or size < FROZEN * (size + trained):
            continue
        names = ", ".join(entry[1] for entry in fresh[:3])
        more = f" and {len(fresh) - 3} more" if len(fresh) > 3 else ""
        text = f"{names}{more}: frozen with the random weights that they began with, {size:,}"
        text += f" values beside {trained:,} that are trained"
        advice = "see which parameters get requires_grad = False, or load pretrained weights"
        line = next(e["at"] for e in record.training_forwards if e["model"] == number)
        found.append(Finding("frozen-weights", "warn", text, advice, line))
    return found


def remade_optimizer(record: Record) -> list[Finding]:
    """An optimizer should live as long as the training.

    A new one has lost its momentum and its running averages: Adam made anew per step is sign
    descent. New folds and stages are meant: they have other parameters, or the same ones with
    other values than the last step left.
    """
    made = Counter(
        tuple(event["parameters"]) for event in record.all("optimizer") if not event.get("reset")
    )
    stepped = [number for number, steps in record.by_optimizer.items() if steps]
    if not made or made.most_common(1)[0][1] <= MADE_ANEW or len(stepped) <= MADE_ANEW:
        return []
    times = made.most_common(1)[0][1]
    event = record.all("optimizer")[-1]
    text = f"an optimizer of the same parameters was made {times} times in {record.steps} steps"
    advice = "make it once, before the loop: momentum and averages are lost each time"
    return [Finding("remade-optimizer", "warn", text, advice, event["at"])]


def learning_rate(record: Record) -> list[Finding]:
    """The learning rate must be above 0, and stay there while there is something to learn.

    It is 0 or next to it where a scheduler is stepped per batch though it counts epochs, where
    its factor is applied to a rate that was reduced already, or where a warm-up never ends.
    """
    found = []
    for number, steps in record.by_optimizer.items():
        rates = [max(step["lr"], default=0.0) for step in steps if not step["cut"]]
        if len(rates) <= MIN_STEPS:
            continue
        where = steps[-1]["at"]
        name = record.class_of(number)
        if max(rates) == 0:
            text = f"{name}: the learning rate was 0 at all {len(rates)} steps"
            found.append(Finding("learning-rate", "fail", text, "set lr > 0", where, 0.0))
            continue
        highest = rates.index(max(rates))
        low = next((i for i, rate in enumerate(rates) if rate < COLLAPSED * max(rates)), None)
        stays = low is not None and max(rates[low:]) < 10 * COLLAPSED * max(rates)
        if low is not None and stays and highest < low <= EARLY * len(rates):
            scheduler = record.all("schedule")
            line = scheduler[-1]["at"] if scheduler else where
            text = f"{name}: the learning rate fell from {max(rates):.2g} to {rates[low]:.2g}"
            text += f" within {low} steps"
            advice = "step the scheduler once per epoch, or give it the length in steps"
            found.append(Finding("learning-rate", "fail", text, advice, line, rates[low]))
    return found


def scheduler_pace(record: Record) -> list[Finding]:
    """A scheduler that counts steps must be stepped per step, and after the optimizer.

    OneCycleLR has a number of steps to go. Stepped per epoch it stays at the beginning of its
    cycle; stepped for each micro-batch it is at its end too early.
    """
    schedule = [event for event in record.all("schedule") if not event["cut"]]
    steps = [step for step in record.all("step") if not step["cut"]]
    found = []
    if not schedule and not _made_to_count(record):
        return []
    totals = [e for e in schedule if isinstance(e["total"], int) and e["total"] > 0]
    if totals and len(steps) >= 20 and len(steps) > SLOW * len(totals):
        passes = max(1, len(record.all("pass")))
        if len(totals) <= passes and totals[0]["total"] > SLOW * passes:
            event = totals[-1]
            text = (
                f"{event['name']} has {event['total']} steps to go, and was stepped {len(totals)}"
                f" times in {len(steps)} steps of the optimizer"
            )
            advice = "step it after each optimizer.step(), or give it the number of epochs"
            found.append(Finding("scheduler", "fail", text, advice, event["at"]))
    many = Counter(event["scheduler"] for event in schedule)
    if steps and many and len(record.by_optimizer) == 1:
        number, times = many.most_common(1)[0]
        if record.framework == "plain" and times > 1.5 * len(steps) + 2 and len(steps) >= 4:
            event = next(e for e in schedule if e["scheduler"] == number)
            text = f"{event['name']} was stepped {times} times in {len(steps)} optimizer steps"
            advice = "step it where the optimizer steps, not for each micro-batch"
            found.append(Finding("scheduler", "warn", text, advice, event["at"]))
    if not found and (early := _before_the_optimizer(record)):
        text = f"{early['name']} is stepped before the optimizer: the first rate is skipped"
        advice = "call scheduler.step() after optimizer.step()"
        found.append(Finding("scheduler", "warn", text, advice, early["at"]))
    return found


def _made_to_count(record: Record) -> bool:
    return any(event["total"] for event in record.all("schedule"))


def _before_the_optimizer(record: Record) -> Event | None:
    """A scheduler's step before the first one of the optimizer."""
    order = [event for event in record.all("schedule", "step") if event["n"] < 2]
    if len(order) > 1 and order[0]["k"] == "schedule" and order[1]["k"] == "step":
        return order[0]
    return None


def weights_move(record: Record) -> list[Finding]:
    """A step must change the weights.

    Where gradients are there and the learning rate is above 0, weights that stay bit for bit the
    same are copies, are overwritten after each step, or the rate is below their precision.
    """
    for number, steps in record.by_optimizer.items():
        if record.class_of(number) == "LBFGS":
            continue  # it stays where it has converged
        deep = [s for s in steps if s.get("compared") and s.get("norm") and max(s["lr"], default=0)]
        still = [step for step in deep if step["changed"] == 0]
        if len(deep) >= 5 and len(still) > 0.8 * len(deep):
            text = f"{record.class_of(number)}: {len(still)} of {len(deep)} steps changed no weight"
            advice = "raise the learning rate; keep the weights in float32"
            return [Finding("weights-move", "fail", text, advice, steps[-1]["at"])]
    return []


MIN_TRAINED = 20  # steps that would make units different
DROPPED = 0.8  # from which a rate of dropout may be one of keeping
MOMENTUM = 0.9  # from which running averages are those of the last batches


def equal_units(record: Record) -> list[Finding]:
    """Units of a layer must begin differently.

    With one constant for all weights they get the same gradients and stay the same: the layer has
    the power of one unit. (CS231n: weight initialization, symmetry breaking.)
    """
    found = []
    for number in sorted(record.trained_models):
        entry = record.models.get(str(number), {})
        same = [one for one in entry.get("alike") or [] if one[0] in record.trained]
        if same and record.steps >= MIN_TRAINED:
            names = ", ".join(one[1] for one in same[:3])
            text = (
                f"{names}: all {same[0][2]} units have the same weights after {record.steps} steps"
            )
            advice = "initialize the weights at random"
            line = next(e["at"] for e in record.training_forwards if e["model"] == number)
            found.append(Finding("equal-units", "fail", text, advice, line))
    return found


def layer_settings(record: Record) -> list[Finding]:
    """Some settings mean the opposite elsewhere.

    The rate of dropout is the share that is removed, not that which is kept; the momentum of batch
    norm is the share of the new batch in its averages, 0.1 where other libraries write 0.9. Both
    are legal.
    """
    found = []
    for number in sorted(record.trained_models):
        entry = record.models.get(str(number), {})
        line = next(e["at"] for e in record.training_forwards if e["model"] == number)
        if entry.get("dropped", 0.0) >= DROPPED:
            text = f"dropout removes {100 * entry['dropped']:.0f} % of the units"
            advice = "p is the share that is removed: did you mean 1 - p?"
            found.append(Finding("layer-settings", "warn", text, advice, line, entry["dropped"]))
        if entry.get("momentum", 0.0) >= MOMENTUM:
            text = (
                f"batch norm has momentum {entry['momentum']}: its averages are those of the last"
            )
            text += " batch"
            advice = "momentum is the share of the new batch: did you mean 1 - momentum?"
            found.append(Finding("layer-settings", "warn", text, advice, line, entry["momentum"]))
    return found
