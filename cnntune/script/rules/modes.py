"""Train and eval mode, and what validation may not change."""

import itertools
from collections.abc import Sequence

from cnntune.findings import Finding
from cnntune.script.record import Event, Record

USUAL = 0.8  # share of the passes that makes a habit
MIN_SINGLE = 10  # training steps that make a habit
OFTEN = 0.2  # share of the training passes of a line
MIN_PASSES = 3  # forward passes of a kind
UNLIKE = 0.5  # cosine of the weights that were loaded and of those that are used
LOST_WEIGHTS = 0.9  # share of them
MIN_VALUES = 100  # of all weights that are compared, for their cosines to be no chance
MIN_LOOKS = 2  # states of the weights of a copy


def eval_while_training(record: Record) -> list[Finding]:
    """A network is trained in train mode.

    `model.eval()` before a validation stays in force until `model.train()`: from the second epoch
    on there is no dropout, and batch norm uses averages that no longer change. A network that is in
    eval mode from the beginning may be meant, as where a pretrained one is fine-tuned.
    """
    found = []
    for model in sorted(record.trained_models):
        passes = [e for e in record.training_forwards if e["model"] == model and e["watched"]]
        wrong = [e for e in passes if not e["train"] and e["active"] == 0 and e["trains"]]
        if len(wrong) < MIN_PASSES:
            continue
        first = next((i for i, event in enumerate(passes) if event["train"]), None)
        where = wrong[-1]["at"]
        advice = "call model.train() at the beginning of each epoch"
        if first is None:
            text = "trained in eval mode from the first step on: no dropout, fixed batch norm"
            advice = "call model.train() before the loop, unless this is meant"
            found.append(Finding("eval-while-training", "warn", text, advice, where))
        elif not passes[-1]["train"] and first == 0:
            text = (
                f"trained in eval mode from step {wrong[0]['n']} on: no dropout, fixed batch norm"
            )
            found.append(Finding("eval-while-training", "fail", text, advice, where))
        elif left := _left_in_eval(record, passes):
            text = f"trained in eval mode at {len(left)} of {len(passes)} steps, each time after a"
            text += " validation: no dropout, fixed batch norm"
            advice = "call model.train() after each validation"
            found.append(Finding("eval-while-training", "fail", text, advice, left[-1]["at"]))
    return found


def _left_in_eval(record: Record, passes: Sequence[Event]) -> list[Event]:
    """Training passes of one line in eval mode, since a validation, where others are in train mode.

    An attack, and a stage with fixed norms, have a line of their own, or follow no validation.
    """
    model = passes[0]["model"]
    measured = [
        e["index"]
        for e in record.all("forward")
        if e["model"] == model and not e["train"] and not e["grad"]
    ]
    left: list[Event] = []
    for line in {event["at"] for event in passes}:
        here = [event for event in passes if event["at"] == line]
        wrong = [e for e in here if not e["train"] and e["active"] == 0 and e["trains"]]
        runs = [
            event
            for before, event in itertools.pairwise([None, *here])
            if event in wrong and (before is None or before["train"])
        ]
        if not runs or len(wrong) == len(here) or len(wrong) < OFTEN * len(here):
            continue
        if all(_follows(event, here, measured) for event in runs):
            left += wrong
    return left if len(left) >= MIN_SINGLE else []


def _follows(event: Event, here: Sequence[Event], measured: Sequence[int]) -> bool:
    """Whether there was a validation between a training pass and the one before it."""
    earlier = max((e["index"] for e in here if e["index"] < event["index"]), default=0)
    return any(earlier < index < event["index"] for index in measured)


def train_while_validating(record: Record) -> list[Finding]:
    """A network is measured in eval mode.

    In train mode dropout removes units of the network that is measured, and batch norm normalizes
    with the batch at hand and takes the validation images into its averages.
    """
    found = {}
    for block in record.validation_blocks:
        wrong = [e for e in block if e["train"] and e["active"] and _is_trained(record, e)]
        if len(wrong) < min(2, len(block)) or _repeats(block) or not _scored(record, block):
            continue
        event = wrong[-1]
        text = f"validation in train mode: {event['active']} dropout or norm layers are active"
        advice = "call model.eval() before the validation and model.train() after it"
        found[event["at"]] = Finding("train-while-validating", "fail", text, advice, event["at"])
    return list(found.values())


def _is_trained(record: Record, event: Event) -> bool:
    return event["model"] in record.trained_models and event["trains"]


def _repeats(block: Sequence[Event]) -> bool:
    """Whether the same batch passes several times, as for Monte Carlo dropout."""
    rows = [tuple(event.get("rows", ())) for event in block]
    return len(rows) >= 2 and len(set(rows)) <= len(rows) / 2


def _scored(record: Record, block: Sequence[Event]) -> bool:
    """Whether it is a validation, and no recalibration of batch norm on the training batches."""
    seen = _rows_of(record.training_forwards)
    rows = _rows_of(block)
    return len(rows & seen) <= 0.5 * len(rows) or _losses_near(record, block)


def _losses_near(record: Record, block: Sequence[Event]) -> bool:
    first, last = block[0]["index"], block[-1]["index"]
    inside = False
    for event in record.events:
        if event["k"] == "forward":
            inside = first <= event["index"] <= last
        elif event["k"] == "loss" and inside:
            return True
    return False


def _rows_of(events: Sequence[Event]) -> set[int]:
    return {row for event in events for row in event.get("rows", ())}


def batch_of_one(record: Record) -> list[Finding]:
    """Batch norm needs a batch.

    With one sample it subtracts that sample's own mean and divides by its own spread, which removes
    what is the same all over it, and its averages fit no other sample. Image-to-image networks
    that mean instance norm by it are an exception.
    """
    passes = [e for e in record.training_forwards if e.get("norms") and e.get("shape")]
    single = [event for event in passes if event["shape"][0] == 1]
    if len(single) < MIN_SINGLE or len(single) <= USUAL * len(passes):
        return []
    text = f"batch norm is trained with batches of one sample, {len(single)} times"
    advice = "use larger batches, or group norm"
    return [Finding("batch-norm", "warn", text, advice, single[-1]["at"])]


def teacher_mode(record: Record) -> list[Finding]:
    """A teacher that is not trained any more answers in eval mode.

    In train mode its dropout makes the targets random, and its batch norm follows the student's
    batches. A teacher that is an average of the student, and so changes, is often meant so.
    """
    found = []
    last = {e["model"]: e["index"] for e in record.training_forwards}
    for model in record.models:
        number = int(model)
        after = [
            e
            for e in record.all("forward")
            if e["model"] == number and e["index"] > last.get(number, 0) and e.get("shape")
        ]
        wrong = [e for e in after if e["train"] and e["active"] and not (e["grad"] and e["trains"])]
        others = {e["n"] for e in record.training_forwards if e["model"] != number}
        beside = [e for e in wrong if e["n"] in others]
        looks = [e["look"] for e in beside if "look" in e]
        if len({e["n"] for e in beside}) < MIN_SINGLE or len(beside) <= USUAL * len(after):
            continue
        if len(looks) < 2 or any(look != looks[0] for look in looks):
            continue
        text = f"{record.models[model]['class']} is not trained, and computes in train mode beside"
        text += f" the training, {len(beside)} times: {beside[-1]['active']} dropout or norm layers"
        text += " are active"
        advice = "call teacher.eval() before the loop"
        found.append(Finding("teacher-mode", "warn", text, advice, beside[-1]["at"]))
    return found


def dropout_in_eval(record: Record) -> list[Finding]:
    """`F.dropout` needs `training=self.training`.

    The function drops by default, also in eval mode, so that predictions are random. Monte Carlo
    dropout is meant.
    """
    places = record.counts.get("dropout in eval", {})
    found = []
    for where, times in places.items():
        if times >= MIN_PASSES:
            text = f"F.dropout was active in eval mode, {times} times"
            advice = "pass training=self.training, or use nn.Dropout"
            found.append(Finding("dropout-in-eval", "warn", text, advice, where))
    return found


def argmax_axis(record: Record) -> list[Finding]:
    """The predicted class is `argmax(dim=1)`.

    Without `dim` it is one index into the whole batch; with `dim=0` it is the sample that has the
    largest output, for each class.
    """
    found = []
    for where, times in record.counts.get("argmax of all rows", {}).items():
        if times >= MIN_PASSES:
            text = f"argmax without dim of a batch, {times} times: one number for all rows"
            found.append(Finding("argmax-axis", "warn", text, "use argmax(dim=1)", where))
    for where, times in record.counts.get("largest over the batch", {}).items():
        if times >= MIN_PASSES:
            text = f"the largest value over the batch is taken, {times} times: dim=0 counts samples"
            found.append(Finding("argmax-axis", "warn", text, "use dim=1 for the class", where))
    return found


def threshold(record: Record) -> list[Finding]:
    """A logit is positive where its probability is above one half.

    With `binary_cross_entropy_with_logits` a model returns logits. Compared with 0.5, or rounded,
    they give another accuracy than their probabilities do.
    """
    names = {event["name"] for event in record.all("loss") if event["grad"]}
    if "binary_cross_entropy_with_logits" not in names:
        return []
    found = []
    for where, times in record.counts.get("half of no probability", {}).items():
        if times >= MIN_PASSES:
            text = f"logits are compared with 0.5, {times} times, as if they were probabilities"
            advice = "apply the sigmoid first, or compare with 0"
            found.append(Finding("threshold", "warn", text, advice, where))
    return found


def stale_copy(record: Record) -> list[Finding]:
    """What is validated must be what is trained.

    A copy that was made before the training, or a second model of the same class, stays as it was:
    its validation says nothing about the training.
    """
    trained = record.trained_models
    twins = [
        number
        for number, entry in record.models.items()
        if int(number) not in trained
        and any(record.models[str(other)]["shapes"] == entry["shapes"] for other in trained)
    ]
    for number in twins:
        blocks = [
            block
            for block in record.validation_blocks
            if all(event["model"] == int(number) for event in block)
        ]
        looks = [block[-1].get("look") for block in blocks]
        entry = record.models[number]
        origin = next(
            (
                record.models[str(other)]
                for other in trained
                if record.models[str(other)]["first"] == entry["first"]
            ),
            None,
        )
        if len(looks) >= 2 and all(look == looks[0] for look in looks) and origin is not None:
            text = f"the validated {entry['class']} is a copy of the one that is trained, from"
            text += f" before the training: it did not change in {len(looks)} validations"
            advice = "validate the model that the optimizer holds"
            return [Finding("stale-copy", "fail", text, advice, blocks[-1][-1]["at"])]
    return []


def restored_alias(record: Record) -> list[Finding]:
    """The best weights must be a copy.

    `model.state_dict()` shares its tensors with the model: kept as "best", it changes with each
    step, and loading it changes nothing. `copy.deepcopy` keeps it.
    """
    events = [event for event in record.all("restored itself") if event["n"] > 0]
    if not events:
        return []
    text = "load_state_dict() gets the model's own tensors: nothing is restored"
    advice = "keep copy.deepcopy(model.state_dict())"
    return [Finding("restored-alias", "fail", text, advice, events[-1]["at"])]


def loaded_nothing(record: Record) -> list[Finding]:
    """A state that is loaded must fit the module.

    `load_state_dict(strict=False)` leaves out what does not fit, and raises nothing. Keys that
    begin with `module.` or `_orig_mod.`, or a checkpoint that holds the state in an entry of its
    own, fit nowhere: the weights stay random. (PyTorch documentation of `load_state_dict`.)
    """
    events = record.all("loaded")
    fitted = {event["module"] for event in events if event["fitting"]}
    empty = [e for e in events if e["given"] and not e["fitting"] and e["module"] not in fitted]
    if not empty:
        return []
    event = empty[-1]
    text = f"load_state_dict() got {event['given']} entries, and none is of this module:"
    text += f" {event['name']} is not, {event['own']} is"
    advice = "rename the keys, or choose the entry of the checkpoint that holds the state; see what"
    advice += " load_state_dict(strict=False) returns"
    return [Finding("loaded-nothing", "fail", text, advice, event["at"], 0.0)]


def overwritten_weights(record: Record) -> list[Finding]:
    """Weights that were loaded must be those of the first forward pass.

    `model.apply(init_weights)` after `load_state_dict()` draws them anew, and the training begins
    at random. Weights that are near those that were loaded (noise, averages, pruning) are meant,
    and so is a new head on a loaded body.
    """
    for event in record.all("first weights"):
        lost = [one for one in event["alike"] if abs(one) < UNLIKE]
        if len(lost) < LOST_WEIGHTS * len(event["alike"]) or event["values"] < MIN_VALUES:
            continue
        text = f"{len(lost)} of {len(event['alike'])} weights that were loaded were replaced before"
        text += " the first forward pass: they have nothing in common with those that were loaded"
        advice = "initialise first, then load; look for what is called after load_state_dict()"
        return [Finding("overwritten-weights", "fail", text, advice, event["at"], len(lost))]
    return []


def norm_averages(record: Record) -> list[Finding]:
    """An averaged copy needs running averages of batch norm, too.

    They are buffers, not parameters: a moving average of the parameters alone leaves those of the
    copy as they were when it was made, and in eval mode it answers with them. `update_bn`, or
    buffers that are averaged or copied too, repair it. (PyTorch documentation of `AveragedModel`.)
    """
    trained = record.trained_models
    moving = {
        record.models[str(e["model"])]["shapes"]
        for e in record.training_forwards
        if e.get("norms") and e["train"]
    }
    for number, entry in record.models.items():
        if int(number) in trained or entry.get("shapes") not in moving:
            continue
        seen = [e for e in record.all("forward") if e["model"] == int(number) and e["n"] > 0]
        looks = [e for e in seen if not e["train"] and not e["active"] and e.get("averages")]
        weights = {tuple(event["look"]) for event in looks}
        kept = {tuple(event["averages"]) for event in looks}
        if len(weights) < MIN_LOOKS or len(kept) > 1 or looks[-1]["n"] < MIN_SINGLE:
            continue
        text = f"the weights of {entry['class']} follow those that are trained, and the running"
        text += f" averages of its batch norm did not change in {looks[-1]['n']} steps"
        advice = "copy or average its buffers too, or call torch.optim.swa_utils.update_bn"
        return [Finding("norm-averages", "warn", text, advice, looks[-1]["at"])]
    return []


def seed_in_loop(record: Record) -> list[Finding]:
    """The seed is set once.

    Set at each step, dropout and augmentation repeat one draw for ever.
    """
    seeds = [event for event in record.all("seed") if event["n"] > 0]
    if not seeds:
        return []
    steps = {event["n"] for event in seeds}
    if (
        record.steps >= 10
        and len(steps) > USUAL * record.steps
        and len({e["seed"] for e in seeds}) == 1
    ):
        text = f"the same seed was set at {len(steps)} steps: each has the same random numbers"
        advice = "call torch.manual_seed once, before the loop"
        return [Finding("seed-in-loop", "warn", text, advice, seeds[-1]["at"])]
    return []
