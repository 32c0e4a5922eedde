"""Which samples are trained on, and which are measured."""

import itertools
import math
from collections import Counter

from cnntune.findings import Finding
from cnntune.script.record import Event, Record

MIN_ROWS = 32  # of a validation, before its overlap with the training set is judged
OVERLAP = 0.75  # share of the validation's rows that were trained on
ONE_CLASS = 0.4  # share of the batches
TURNS = 0.5  # share of the batches of one class after which another class comes
BACK = 0.2  # share of them after which a class comes again that was before: not sorted
SAME_ROWS = 0.1  # share of the samples that two validations have in common
FIRST_BATCHES = 2  # of a validation, which a pass that is made short has too
MIN_BATCHES = 8
MIN_BATCH = 8  # targets, for a batch of one class to be no accident
USUAL = 0.8  # share of the batches that makes a habit
MIN_EXPECTED = 100  # different samples that chance would draw
FEW = 0.2  # of them
MIN_PART = 64  # validation samples
PART = 0.1  # share of them that was trained on
TWICE = 0.8  # share of the samples that were drawn again: whole epochs were seen
TWICE_MEASURED = 0.02  # share of them that are copies of one another
PART_OF_ALL = 0.75  # of the samples that were trained on: what is measured without a loader
MIN_DRAWS = 20  # steps, all with the same values
BESIDE = 0.5  # share of the steps with other samples, too
MIN_AGAIN = 40  # samples that were seen twice
CHANGED = 0.3  # of them with another label: of two classes, half are by chance
MIN_LATELY = 8  # training passes since a fold was trained on
MIN_GONE = 0.05  # of all steps: longer than what a shuffled epoch leaves out
WIDE = 8  # values of a row, below which states of a small world repeat


def _wide(event: Event) -> bool:
    """Whether a row has enough values for two equal rows to be one sample."""
    values = 1
    for size in event.get("shape", [1])[1:]:
        values *= size
    tokens = "int" in event.get("type", "")
    return values >= (4 * WIDE if tokens else WIDE) and bool(event.get("rows"))


def validation_overlap(record: Record) -> list[Finding]:
    """Samples that are validated must not be trained on.

    A loader of the training set in place of the validation set, a split that was drawn twice, or
    copies of a sample in both: the measured accuracy is then that of memory. A pass over the
    training set to measure the training accuracy is meant, where there is another one.
    """
    judged = []
    for block in record.validation_blocks:
        wide = [event for event in block if _wide(event)]
        models = {event["model"] for event in wide}
        seen = [row for event in wide for row in event["rows"]]
        if len(seen) >= MIN_ROWS and models & record.trained_models:
            before = _trained_before(record, models, block[0]["index"])
            judged.append((sum(row in before for row in seen) / len(seen), wide[-1]))
    if not judged or any(share < OVERLAP for share, _ in judged) or folds_apart(record):
        return []
    if any(count > 3 for count in _draws(record)):
        return []  # a handful of samples, all of which are everywhere
    share, event = judged[-1]
    text = f"{100 * share:.0f} % of the validation samples were trained on before"
    advice = "give the validation a set of its own, split before anything else"
    return [Finding("split", "fail", text, advice, event["at"], share, 0.0)]


def _trained_before(record: Record, models: set[int], index: int) -> set[int]:
    """Rows that these models were trained on as they are, without those of the batch at hand."""
    begun = max((n for n in _resets(record) if n <= _step_of(record, index)), default=0)
    return {
        row
        for event in record.training_forwards
        if event["index"] < index - 1 and event["model"] in models and event["n"] >= begun
        for row in event.get("rows", ())
    }


def _step_of(record: Record, index: int) -> int:
    """The steps before a forward pass."""
    return next(int(e["n"]) for e in record.all("forward") if e["index"] == index)


def _drawn_alike(
    record: Record, batches: Counter[tuple[int, ...]], sizes: set[object]
) -> list[Finding]:
    """Batches that are made anew at each step and hold the same values.

    A full batch, or one that is overfitted on purpose, is one and the same tensor, or drawn from
    nothing. What is fixed beside other inputs or targets that change is meant.
    """
    seeded = {event["n"] for event in record.all("seed") if event["n"]}
    draws = sum(record.counts.get("drawn with a generator", {}).values())
    if max(len(seeded), draws) < BESIDE * record.steps:
        return []
    trained = [event for event in record.training_forwards if event.get("rows")]
    passes = [event for event in trained if _wide_enough(event)]
    if len({e["others"] for e in trained if "others" in e}) > 1:
        return []
    if len({e["target"] for e in record.all("loss") if e["grad"] and "target" in e}) > 1:
        return []
    if len(passes) < MIN_DRAWS or sizes & {1, None} or not batches:
        return []
    again = sum(event.get("again", True) for event in passes)
    usual, times = Counter(tuple(e["rows"]) for e in passes).most_common(1)[0]
    if times < len(passes) or again > 1 or len(set(usual)) < 2:
        return []
    others = {
        event["n"]
        for event in record.all("forward")
        if event["grad"] and event["train"] and event.get("rows", []) != list(usual)
    }
    if len(others) > BESIDE * len({event["n"] for event in passes}):
        return []  # a fixed part, such as a boundary, beside samples that are drawn
    text = f"a batch is drawn at each step, and all {times} hold the same {len(usual)} samples"
    advice = "make the generator once, before the loop, and do not seed it in the loop"
    return [Finding("same-batch", "warn", text, advice, passes[-1]["at"], times)]


def _wide_enough(event: Event) -> bool:
    return len(event.get("shape", [])) > 0 and event["shape"][0] == len(event["rows"])


def _draws(record: Record) -> list[int]:
    """How often the usual training sample was drawn."""
    times = Counter(
        row for event in record.training_forwards if _wide(event) for row in event["rows"]
    )
    counts = sorted(times.values())
    return [counts[len(counts) // 2]] if len(counts) < 100 and counts else []


def drawn_samples(record: Record) -> list[Finding]:
    """Training must draw from all samples.

    `WeightedRandomSampler` wants one weight per sample: with one per class it draws the first few
    samples only. The samples that it drew are counted too, and compared with those that chance
    would have drawn from the data set. Strong weights are sometimes meant.
    """
    for event in record.all("pass"):
        weights, count = event.get("weights"), event.get("samples")
        if weights and count and weights < count:
            text = f"the sampler has {weights} weights for {count} samples: only the first"
            text += f" {weights} are ever drawn"
            advice = "give WeightedRandomSampler the weight of each sample: class_weights[labels]"
            return [Finding("drawn-samples", "fail", text, advice, event["at"], weights, count)]
    begun: Event | None = None
    drawn: dict[int, list[int]] = {}
    loaders: dict[int, Event] = {}
    for event in record.events:
        if event["k"] == "pass":
            begun = event
        elif begun is not None and begun.get("weights") and event["k"] == "forward":
            trains = event["index"] in record.training_indices
            if trains and _wide(event):
                drawn.setdefault(begun["loader"], []).extend(event["rows"])
                loaders[begun["loader"]] = begun
    for loader, rows in drawn.items():
        count = loaders[loader]["samples"]
        expected = count * (1 - math.exp(-len(rows) / count))
        if expected >= MIN_EXPECTED and len(set(rows)) < FEW * expected:
            text = f"{len(rows)} draws from a data set of {count} samples gave {len(set(rows))}"
            text += f" different ones; by chance it would be {expected:.0f}"
            advice = "see how the sampler or the data set chooses samples"
            where = loaders[loader]["at"]
            return [Finding("drawn-samples", "warn", text, advice, where, len(set(rows)))]
    return []


def alike_samples(record: Record) -> list[Finding]:
    """The samples of a batch must differ.

    A buffer that is filled again for each sample, and kept by reference, makes all of them the last
    one; so does an index that does not change. Batches that are one sample many times are rarely
    meant.
    """
    passes = [e for e in record.training_forwards if _wide(e) and len(e["rows"]) >= MIN_BATCH]
    alike = [event for event in passes if len(set(event["rows"])) == 1]
    if len(passes) < MIN_BATCHES or len(alike) <= USUAL * len(passes):
        return []
    text = f"all samples of a batch are the same, in {len(alike)} of {len(passes)} training batches"
    advice = "see how samples are read and stored: copy a buffer that is used again"
    return [Finding("alike-samples", "warn", text, advice, alike[-1]["at"], len(alike))]


def alike_views(record: Record) -> list[Finding]:
    """Two views of a sample must differ.

    A contrastive loss, or one of consistency, compares what a network answers to two augmented
    copies. Where both are the same values, their answers are too, and nothing is left to learn.
    Views that differ by dropout alone are meant.
    """
    twins = {e["index"]: e["twin"] for e in record.all("forward") if e.get("twin")}
    same, at = 0, ""
    for event in record.walked:
        compared = [{i, twins[i]} for i in event["forwards"] if i in twins]
        groups = [set(group) for group in event.get("joined", [])]
        if any(len(pair) == 1 or any(pair <= group for group in groups) for pair in compared):
            same, at = same + 1, event["at"]
    if len(record.walked) < MIN_BATCHES or same <= USUAL * len(record.walked):
        return []
    text = f"the loss compares two equal answers to the same samples, at {same} of"
    text += f" {len(record.walked)} backward passes: the two views are one"
    advice = "augment the sample anew for each view"
    return [Finding("alike-views", "warn", text, advice, at, same)]


def partial_overlap(record: Record) -> list[Finding]:
    """No part of the validation set may be trained on.

    Copies of samples on both sides of a split come from resampling or augmenting before the split,
    or from duplicates in the data; the measured figures are too good.
    """
    whole = [block for block in record.evaluations if _is_held_out(record, block)]
    for block in reversed([*whole, *record.validation_blocks]):
        wide = [e for e in block if _wide(e) and "float" in e.get("type", "")]
        models = {event["model"] for event in wide}
        if any(event.get("rich") is False for event in wide):
            continue  # equal samples by chance
        rows = [row for event in wide for row in event["rows"]]
        if len(rows) < MIN_PART or not models <= record.trained_models:
            continue
        before = _trained_before(record, models, block[0]["index"])
        share = sum(row in before for row in rows) / len(rows)
        if PART <= share < OVERLAP and len(set(rows)) > PART * len(rows):
            text = f"{100 * share:.0f} % of {len(rows)} validation samples were trained on before"
            advice = "split first, then resample or augment the training part only"
            return [Finding("split", "warn", text, advice, wide[-1]["at"], share, 0.0)]
    return []


def _is_held_out(record: Record, block: list[Event]) -> bool:
    """Whether samples that no loader gave are those of a validation set.

    All data in one tensor have as many samples as were trained on; a pool from which samples are
    taken or labelled by the network is trained on later; and a part of the training set is known
    only once all of it was trained on. Copies are in each batch; where only some are known,
    a line measures two sets, as queries and a gallery. Where samples were repeated before a split,
    some are twice in the validation set, too.
    """
    models = {event["model"] for event in block}
    before = _trained_before(record, models, block[0]["index"])
    times = Counter(
        row
        for event in record.training_forwards
        if event["index"] < block[0]["index"] and event["model"] in models
        for row in event.get("rows", ())
    )
    rows = [row for event in block for row in event.get("rows", ())]
    if len(set(rows)) > (1 - TWICE_MEASURED) * len(rows):
        return False
    full = [event["rows"] for event in block if len(event.get("rows", ())) >= MIN_ROWS]
    if not full or not all(
        PART <= sum(row in before for row in rows) / len(rows) < OVERLAP for rows in full
    ):
        return False
    if sum(times[row] > 1 for row in before) < TWICE * len(before):
        return False
    if sum(event.get("shape", [0])[0] for event in block) > PART_OF_ALL * len(before):
        return False
    unseen = {row for event in block for row in event.get("rows", ())} - before
    later = (e for e in record.training_forwards if e["index"] > block[-1]["index"])
    return not any(unseen & set(e.get("rows", ())) for e in later if e["model"] in models)


def folds_apart(record: Record) -> list[Finding]:
    """A fold is tested by a network that never saw it.

    With one network for all folds, the samples that test a fold were trained on in the folds
    before: they are no longer trained on, and the network remembers them. Weights that are reset
    between folds, and an accuracy on the samples that are trained on now, are meant.
    """
    begun = _resets(record)
    for block in reversed(record.validation_blocks):
        wide = [event for event in block if _wide(event)]
        models = {event["model"] for event in wide}
        rows = {row for event in wide for row in event["rows"]}
        if len(rows) < MIN_ROWS or not models or not models <= record.trained_models:
            continue
        first, since = wide[0]["n"], max((n for n in begun if n <= wide[0]["n"]), default=0)
        passes = [
            event
            for event in record.training_forwards
            if event["model"] in models
            and since <= event["n"]
            and event["index"] < wide[0]["index"]
        ]
        last: dict[int, int] = {}
        for event in passes:
            last.update(dict.fromkeys(event.get("rows", ()), event["n"]))
        known = [last[row] for row in rows if row in last]
        if len(known) < OVERLAP * len(rows):
            continue
        stopped = max(known)
        lately = [event for event in passes if event["n"] > stopped]
        if len(lately) < MIN_LATELY or first - stopped < MIN_GONE * (first - since):
            continue
        if sum(len(event.get("rows", ())) for event in lately) < len(rows):
            continue
        text = f"{100 * len(known) / len(rows):.0f} % of {len(rows)} validation samples were"
        text += f" trained on before, until step {stopped}, and not in the {len(lately)} steps"
        text += " since: the network has seen this fold"
        advice = "make model and optimizer anew for each fold"
        line = wide[-1]["at"]
        return [Finding("folds-apart", "fail", text, advice, line, len(known) / len(rows), 0.0)]
    return []


def _resets(record: Record) -> list[int]:
    """The steps at which weights had other values than the last step left."""
    return [step["n"] for step in record.all("step") if step.get("reset") and step["n"]]


def labels_stay(record: Record) -> list[Finding]:
    """A sample keeps its label.

    Where inputs and labels are shuffled or indexed apart, the same sample has another label in the
    next epoch, and nothing can be learned. Labels that are changed at random on purpose change for
    a few samples; those that a network gives (pseudo-labels, clusters, actions) are left out: the
    samples were given to one without gradients. Mixed samples have two labels each.
    """
    labels: dict[tuple[str, int], list[int]] = {}
    asked = {row for e in record.all("forward") if not e["grad"] for row in e.get("rows", ())}
    for event in _labelled_once(record):
        for row, label in zip(event["rows"], event["labels"], strict=True):
            if row not in asked:
                labels.setdefault((event["at"], row), []).append(label)
    again = {key: found for key, found in labels.items() if len(found) > 1}
    places = Counter(at for at, _ in again)
    for at, count in places.items():
        changed = sum(len(set(found)) > 1 for (line, _), found in again.items() if line == at)
        if count >= MIN_AGAIN and changed > CHANGED * count:
            text = f"{changed} of {count} samples that were seen again had another label then"
            advice = "shuffle and index inputs and labels together"
            return [Finding("labels-stay", "warn", text, advice, at, changed / count, 0.0)]
    return []


def _labelled_once(record: Record) -> list[Event]:
    """Losses of the only labels of a forward pass; mixed samples have two."""
    passes: list[list[Event]] = [[]]
    for event in record.all("forward", "loss"):
        if event["k"] == "forward":
            passes.append([])
        elif event["grad"] and event.get("labels"):
            passes[-1].append(event)
    return [losses[0] for losses in passes if len(losses) == 1]


def same_batch(record: Record) -> list[Finding]:
    """Each step needs another batch.

    `next(iter(loader))` inside the loop begins a new pass each time: without shuffling, the first
    batch is the only one. Overfitting one batch on purpose, and a set that fits into one batch, are
    meant.
    """
    passes = record.all("pass")
    if record.steps < MIN_BATCHES:
        return []
    starts = Counter(event["n"] for event in passes if (event["batches"] or 0) > 1)
    restarted = len(starts) > 0.8 * record.steps
    batches = Counter(tuple(event.get("rows", ())) for event in record.training_forwards)
    if restarted and batches and batches.most_common(1)[0][1] > 0.8 * sum(batches.values()):
        event = passes[-1]
        text = f"a new pass over a loader of {event['batches']} batches begins at each step: all"
        text += " steps see the same batch"
        advice = "loop over the loader, or keep its iterator"
        return [Finding("same-batch", "fail", text, advice, event["at"])]
    return _drawn_alike(record, batches, {event["batches"] for event in passes})


def changing_validation(record: Record) -> list[Finding]:
    """The validation samples must be the same each time.

    Where the validation set shares its transforms with the training set, it is augmented: it is
    harder than the real task, and its figure is noise. The same is seen where a data set changes
    its stored samples in place each time they are read. Views drawn anew on purpose, as for
    averages over views, are meant, and so is what the script does to the samples that the loader
    gave: noise, an attack.
    """
    seen: dict[tuple[object, ...], list[set[int]]] = {}
    places: dict[tuple[object, ...], str] = {}
    for begun, block in _passes(record):
        wide = [event for event in block if _wide(event) and "float" in event.get("type", "")]
        rows = {row for event in wide[:FIRST_BATCHES] for row in event["rows"]}
        given = set(begun.get("given", ()))
        models = {event["model"] for event in wide}
        if begun["ordered"] and given and len(rows) >= MIN_ROWS and models & record.trained_models:
            key = (begun["dataset"], begun["batches"], tuple(wide[0]["shape"]))
            seen.setdefault(key, []).append(given)
            places[key] = wide[0]["at"]
    for view, passes in seen.items():
        pairs = list(itertools.pairwise(passes))
        shared = [len(one & other) / min(len(one), len(other)) for one, other in pairs]
        if pairs and max(shared) < SAME_ROWS:
            text = f"{len(passes)} validations of one data set in its order had"
            text += f" {100 * max(shared):.0f} % of their samples in common"
            advice = "give the validation set transforms of its own, without random ones; return"
            advice += " a copy where __getitem__ changes a sample"
            return [Finding("changing-validation", "warn", text, advice, places[view])]
    return []


def _passes(record: Record) -> list[tuple[Event, list[Event]]]:
    """Each pass over a loader in which nothing is learned, with its forward passes."""
    found = []
    begun: Event | None = None
    block: list[Event] = []
    for event in [*record.events, {"k": "pass", "n": record.steps}]:
        if event["k"] == "pass":
            if begun is not None and block:
                found.append((begun, block))
            begun, block = event, []
        elif event["k"] in ("step", "backward"):
            begun, block = None, []
        elif event["k"] == "forward" and begun is not None:
            block.append(event)
    return found


def one_class_batches(record: Record) -> list[Finding]:
    """Batches must be mixed.

    A folder of classes is read in order: without `shuffle=True` each batch holds one class, and the
    network learns to answer with the last one. Batches of one class whose losses are added, or that
    take turns with those of another class (two domains, real and generated samples), are meant.
    """
    calls = [
        event
        for event in record.all("loss")
        if event["grad"] and event.get("targets", 0) >= MIN_BATCH and event.get("classes", 0) > 1
    ]
    if len(calls) < MIN_BATCHES:
        return []
    if any(len(event["shapes"][1]) > 1 for event in calls):
        return []  # tokens or pixels
    alone = _alone_in_their_step(record)
    single = [event for event in calls if event["kinds"] == 1 and id(event) in alone]
    if len(single) <= ONE_CLASS * len(calls) or len({event["low"] for event in single}) < 2:
        return []  # always one class: a label of what a generator made
    pairs = [(one["low"], other["low"]) for one, other in itertools.pairwise(single)]
    changes = sum(one != other for one, other in pairs)
    back = sum(one > other for one, other in pairs)
    if changes > TURNS * len(pairs) and back > BACK * len(pairs):
        return []  # they take turns
    text = f"{len(single)} of {len(calls)} training batches hold one class only"
    advice = "pass shuffle=True to the training loader"
    return [Finding("one-class-batches", "fail", text, advice, single[-1]["at"])]


def _alone_in_their_step(record: Record) -> set[int]:
    """Losses that no other one is added to, and whose step has no loss of another class.

    They are known by the identity of their events.
    """
    added: list[list[Event]] = [[]]  # up to each backward pass
    for event in record.events:
        if event["k"] == "loss" and event["grad"]:
            added[-1].append(event)
        elif event["k"] == "backward":
            added.append([])
    steps: dict[int, set[object]] = {}
    for calls in added:
        for event in calls:
            steps.setdefault(event["n"], set()).add((event.get("low"), event.get("high")))
    return {id(one[0]) for one in added if len(one) == 1 and len(steps[one[0]["n"]]) == 1}


def copied_tokens(record: Record) -> list[Finding]:
    """A language model predicts the next token, not the one that it reads.

    Targets that equal the inputs are learned by copying: the loss falls to 0 and the samples are
    repetitions. An autoencoder of tokens is meant.
    """
    calls = [event for event in record.all("loss") if event["grad"] and "copies" in event]
    copies = [event for event in calls if event["copies"]]
    if len(copies) < MIN_BATCHES or len(copies) < len(calls):
        return []
    text = "the targets of cross-entropy are the very tokens that the model gets"
    advice = "shift them: model(tokens[:, :-1]) against tokens[:, 1:]"
    return [Finding("copied-tokens", "warn", text, advice, copies[-1]["at"])]
