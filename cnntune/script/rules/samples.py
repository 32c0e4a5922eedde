"""Which samples are trained on, and which are measured."""

import itertools
import math
from collections import Counter

from cnntune.findings import Finding
from cnntune.script.record import Event, Record

MIN_ROWS = 32  # of a validation, before its overlap with the training set is judged
OVERLAP = 0.75  # share of the validation's rows that were trained on
ONE_CLASS = 0.4  # share of the batches
SAME_ROWS = 0.1  # share of the samples that two validations have in common
FIRST_BATCHES = 2  # of a validation, which a pass that is made short has too
MIN_BATCHES = 8
MIN_BATCH = 8  # targets, for a batch of one class to be no accident
USUAL = 0.8  # share of the batches that makes a habit
MIN_EXPECTED = 100  # different samples that chance would draw
FEW = 0.2  # of them
MIN_PART = 64  # validation samples
PART = 0.1  # share of them that was trained on
MIN_DRAWS = 20  # steps, all with the same values
BESIDE = 0.5  # share of the steps with other samples, too
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
    if not judged or any(share < OVERLAP for share, _ in judged):
        return []
    if any(count > 3 for count in _draws(record)):
        return []  # a handful of samples, all of which are everywhere
    share, event = judged[-1]
    text = f"{100 * share:.0f} % of the validation samples were trained on before"
    advice = "give the validation a set of its own, split before anything else"
    return [Finding("split", "fail", text, advice, event["at"], share, 0.0)]


def _trained_before(record: Record, models: set[int], index: int) -> set[int]:
    """Rows that these models were trained on, without those of the batch at hand."""
    return {
        row
        for event in record.training_forwards
        if event["index"] < index - 1 and event["model"] in models
        for row in event.get("rows", ())
    }


def _drawn_alike(
    record: Record, batches: Counter[tuple[int, ...]], sizes: set[object]
) -> list[Finding]:
    """Batches that are made anew at each step and hold the same values.

    A full batch, or one that is overfitted on purpose, is one and the same tensor. What is fixed
    beside other inputs or targets that change is meant.
    """
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


def partial_overlap(record: Record) -> list[Finding]:
    """No part of the validation set may be trained on.

    Copies of samples on both sides of a split come from resampling or augmenting before the split,
    or from duplicates in the data; the measured figures are too good.
    """
    for block in reversed(record.validation_blocks):
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
    network learns to answer with the last one.
    """
    calls = [
        event
        for event in record.all("loss")
        if event["grad"] and event.get("targets", 0) >= MIN_BATCH and event.get("classes", 0) > 1
    ]
    kinds = {(event["low"], event["high"]) for event in calls}
    if len(calls) < MIN_BATCHES or len(kinds) < 2:
        return []
    if any(len(event["shapes"][1]) > 1 for event in calls):
        return []  # tokens or pixels
    single = [event for event in calls if event["kinds"] == 1]
    if len(single) <= ONE_CLASS * len(calls):
        return []
    text = f"{len(single)} of {len(calls)} training batches hold one class only"
    advice = "pass shuffle=True to the training loader"
    return [Finding("one-class-batches", "fail", text, advice, single[-1]["at"])]


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
