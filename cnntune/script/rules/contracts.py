"""What the documentation of torch's losses asks for, held against what they were given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnntune.findings import Finding, Severity
from cnntune.script.record import Event, Record

MIN_CALLS = 3
USUAL = 0.8  # share of the calls that makes a habit
TOLERANCE = 0.01  # of a sum that should be 1
SMOOTHED = 0.2  # of it, where targets are smoothed or rounded
MANY = 0.25  # share of the targets that an output cannot reach
MIN_VALUES = 16  # of a prediction, before its range says something
MIN_SPREAD = 0.25  # between them; a network that has not begun to learn answers with one value
MOST = 0.6  # share of the targets that an output cannot reach, where it cannot be meant
BLANKS = 0.05  # share of the symbols that are the blank

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Contract:
    """One condition that a loss puts on its arguments."""

    losses: tuple[str, ...]
    broken: Callable[[Facts], bool]
    text: str
    advice: str
    fails: bool = True  # and does not warn


def _size(shape: list[int]) -> int:
    size = 1
    for count in shape:
        size *= count
    return size


def _probabilities_over_classes(facts: Facts) -> bool:
    """Whether rows of a prediction are 0 or more and sum to 1."""
    given = facts["input"]
    return (
        len(given["shape"]) > 1
        and given["shape"][1] > 1
        and given["min"] >= 0
        and given["sums"][1] < TOLERANCE
    )


def _within(low: float, high: float, part: str) -> Callable[[Facts], bool]:
    return lambda facts: low <= facts[part]["min"] and facts[part]["max"] <= high


def _kinds(facts: Facts) -> list[float] | None:
    kinds = facts["target"].get("kinds")
    return None if kinds is None else [float(kind) for kind in kinds]


def _not_signs(facts: Facts) -> bool:
    """Whether targets hold something else than 1 and -1."""
    kinds = _kinds(facts)
    return kinds is None or any(kind not in (-1.0, 1.0) for kind in kinds)


def _outside(low: float, high: float) -> Callable[[Facts], bool]:
    return lambda facts: facts["target"]["min"] < low or facts["target"]["max"] > high


def _one_output(facts: Facts) -> bool:
    shape = facts["input"]["shape"]
    return len(shape) > 1 and shape[1] == 1


def _target_is_no_distribution(facts: Facts) -> bool:
    """Whether the targets of a divergence sum to 1 over no dimension."""
    target = facts["target"]
    sums = target.get("log_sums" if facts.get("log_target") else "sums")
    return bool(sums) and min(sums) > SMOOTHED


def _logs_as_target(facts: Facts) -> bool:
    target = facts["target"]
    return not facts.get("log_target") and target["max"] <= 0 and target["min"] < 0


def _swapped(facts: Facts) -> bool:
    return bool(facts.get("target_grad")) and not facts.get("input_grad")


def _logits_of_a_range(facts: Facts) -> bool:
    """Whether logits of two classes are all between 0 and 1, with many of them."""
    given = facts["input"]
    spread = given["max"] - given["min"] > MIN_SPREAD
    return spread and _size(given["shape"]) >= MIN_VALUES and _within(0, 1, "input")(facts)


def _sums_elsewhere(facts: Facts) -> bool:
    """Whether symbols of a sequence loss are no log-probabilities over the last dimension."""
    sums = facts["input"].get("log_sums")
    return bool(sums) and sums[-1] > TOLERANCE


def _rate_as_logarithm(facts: Facts) -> bool:
    positive = facts["source"] in ("Exp", "Softplus", "Relu")
    return bool(facts.get("log_input")) and positive


def _logarithm_as_rate(facts: Facts) -> bool:
    return facts.get("log_input") is False and facts["input"]["min"] < 0


TWO_SIDED = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
SIGNED = (
    "cosine_embedding_loss", "margin_ranking_loss", "hinge_embedding_loss", "soft_margin_loss",
)  # fmt: skip
REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
UNREACHABLE = "{share:.0f} % of the targets of {name} cannot be reached by the output of a {source}"
RESCALE = "scale the targets to its range, or remove the last activation"
CONTRACTS = (
    Contract(
        ("cross_entropy",),
        _probabilities_over_classes,
        "cross_entropy of values that are 0 or more and sum to 1 over the classes: it takes logits"
        " and applies the softmax itself",
        "return logits, without the softmax",
    ),
    Contract(
        ("cross_entropy",),
        _one_output,
        "cross_entropy of one output per sample: the loss is 0 whatever the output",
        "give the model one output per class, or use binary_cross_entropy_with_logits",
    ),
    Contract(
        ("binary_cross_entropy_with_logits",),
        _logits_of_a_range,
        "binary_cross_entropy_with_logits of values that are all between 0 and 1: it takes logits"
        " and applies the sigmoid itself",
        "return logits, or use binary_cross_entropy",
    ),
    Contract(
        TWO_SIDED,
        _outside(0, 1),
        "targets of {name} are between {low:.3g} and {high:.3g}: it takes 0 to 1, and outside of"
        " them it has no lower end",
        "scale the targets to 0 and 1",
    ),
    Contract(
        SIGNED,
        _not_signs,
        "targets of {name} are between {low:.3g} and {high:.3g}: it takes 1 and -1",
        "use 1 and -1 as targets, for instance 2 * target - 1",
    ),
    Contract(
        ("multilabel_soft_margin_loss",),
        _outside(0, 1),
        "targets of {name} are between {low:.3g} and {high:.3g}: it takes 0 and 1",
        "use 0 and 1 as targets",
    ),
    Contract(
        ("kl_div",),
        _logs_as_target,
        "the targets of kl_div are logarithms, and log_target is not set",
        "pass log_target=True, or probabilities as the second argument",
    ),
    Contract(
        ("kl_div",),
        _target_is_no_distribution,
        "the targets of kl_div are no probabilities: they sum to 1 over no dimension",
        "give it softmax(teacher_logits, dim=1) as the second argument",
    ),
    Contract(
        ("kl_div",),
        _swapped,
        "kl_div gets what is differentiated as its target: the arguments may be swapped",
        "call kl_div(log_softmax(student), softmax(teacher))",
        fails=False,
    ),
    Contract(
        ("ctc_loss",),
        _sums_elsewhere,
        "ctc_loss gets no log-probabilities: their exponentials do not sum to 1 over the last"
        " dimension, the symbols",
        "give it logits.log_softmax(-1), with shape (time, batch, symbols)",
    ),
    Contract(
        ("ctc_loss",),
        lambda facts: facts.get("blanks", 0) > BLANKS,
        "targets of ctc_loss hold the blank, which no target may be",
        "count symbols from 1, or set blank= to an index that is no symbol",
    ),
    Contract(
        ("ctc_loss",),
        lambda facts: facts.get("too_long", 0) > MANY,
        "targets of ctc_loss are longer than their inputs, so that the loss is infinite",
        "check input_lengths and target_lengths: they count steps and symbols of each sample",
    ),
    Contract(
        ("poisson_nll_loss",),
        _rate_as_logarithm,
        "poisson_nll_loss with log_input=True gets a rate (from {source}): it takes its logarithm",
        "return the logarithm, or pass log_input=False",
    ),
    Contract(
        ("poisson_nll_loss",),
        _logarithm_as_rate,
        "poisson_nll_loss with log_input=False gets negative rates",
        "pass log_input=True, or return positive rates",
    ),
    Contract(
        ("poisson_nll_loss",),
        lambda facts: facts["target"]["min"] < 0,
        "targets of poisson_nll_loss are negative: it takes counts",
        "do not normalize the counts",
    ),
    Contract(
        REGRESSION,
        lambda facts: bool(facts.get("picked") and facts.get("target_grad")),
        "both the value of the chosen action and its target are differentiated: the target follows"
        " the prediction",
        "compute the target under torch.no_grad(), or detach() it",
        fails=False,
    ),
    Contract(
        REGRESSION,
        lambda facts: facts.get("unreachable", 0) > MOST,
        UNREACHABLE,
        RESCALE,
    ),
    Contract(
        REGRESSION,
        lambda facts: MANY < facts.get("unreachable", 0) <= MOST,
        UNREACHABLE,
        RESCALE,
        fails=False,
    ),
)


def loss_contract(record: Record) -> list[Finding]:
    """A loss function must get the values that its documentation asks for.

    Targets of 1 and -1 for margins and cosines, 0 to 1 for binary cross-entropy, probabilities for
    a divergence, logarithms where they are named, lengths and blanks for CTC, and targets that the
    last activation can reach. Each holds for most calls, or is not reported. (PyTorch documentation
    of `torch.nn.functional`.)
    """
    calls: dict[tuple[str, str], list[Event]] = {}
    for event in record.all("loss"):
        if event["grad"] and {"input", "target"} <= set(event.get("contract", ())):
            calls.setdefault((event["name"], event["at"]), []).append(event)
    found = []
    for (name, where), events in calls.items():
        for contract in CONTRACTS:
            if name not in contract.losses or len(events) < MIN_CALLS:
                continue
            broken = [event for event in events if contract.broken(event["contract"])]
            if len(broken) <= USUAL * len(events):
                continue
            facts = broken[-1]["contract"]
            text = contract.text.format(
                name=name,
                source=facts["source"].lower(),
                low=min(event["contract"]["target"]["min"] for event in broken),
                high=max(event["contract"]["target"]["max"] for event in broken),
                share=100 * facts.get("unreachable", 0),
            )
            severity: Severity = "fail" if contract.fails else "warn"
            found.append(Finding("loss-contract", severity, text, contract.advice, where))
    return found


MIN_COUNTED = 200  # targets
RARER = 3.0  # times
HEAVIER = 1.5  # times


def class_weights(record: Record) -> list[Finding]:
    """Weights of classes are there for the rare ones.

    A loss counts each sample times the weight of its class. Frequencies in place of their inverses,
    or a `pos_weight` of positives by negatives, make the frequent class count more still.
    """
    found = []
    calls: dict[tuple[str, str], list[Event]] = {}
    for event in record.all("loss"):
        if event["grad"] and "weights" in event.get("contract", ()):
            calls.setdefault((event["name"], event["at"]), []).append(event)
    for (name, where), events in calls.items():
        weights = events[-1]["contract"]["weights"]
        same = [e["contract"] for e in events if len(e["contract"]["weights"]) == len(weights)]
        counts = [sum(one["counts"][kind] for one in same) for kind in range(len(weights))]
        seen = [kind for kind, count in enumerate(counts) if count > 0]
        if sum(counts) < MIN_COUNTED or len(seen) < 2:
            continue
        most, least = max(seen, key=counts.__getitem__), min(seen, key=counts.__getitem__)
        rare = counts[most] > RARER * counts[least]
        if not rare or weights[most] <= HEAVIER * weights[least]:
            continue
        text = f"{name} gives class {most} the weight {weights[most]:.3g} and class {least}"
        text += (
            f" {weights[least]:.3g}, with {counts[most]:.0f} and {counts[least]:.0f} targets: the"
        )
        text += " frequent class counts more"
        advice = "use the inverse of the frequencies; pos_weight is negatives / positives"
        found.append(Finding("class-weights", "warn", text, advice, where))
    return found


LOG_PROBABILITY = "log-probability"
SIGN_SHARE = 0.9  # of the terms


def policy_sign(record: Record) -> list[Finding]:
    """Descent must make good actions more likely, and data too.

    A policy loss is -log p(action) times the advantage; without the minus, good actions become
    rare. The likelihood of data has a minus too. Signs are followed through the graph of the loss;
    an advantage that was negated counts as such. Where the numbers are costs, plus is right.
    (Williams 1992.)
    """
    found = [
        (event["at"], term)
        for event in record.walked
        for term in event.get("terms", ())
        if term[0] == LOG_PROBABILITY and term[4] == "given" and term[2]
    ]
    # Numbers that differ from term to term are the rewards of single actions, not a sign.
    varied = len({round(term[2], 6) for _, term in found}) > 1
    signs = [term[1] if varied or term[2] > 0 else -term[1] for _, term in found]
    weighted = varied or any(term[3] for _, term in found)
    where = found[-1][0] if found else ""
    if len(signs) < MIN_CALLS or sum(sign > 0 for sign in signs) < SIGN_SHARE * len(signs):
        return []
    if len(record.by_optimizer) > 1 and not weighted:
        return []
    what = "times its weight " if weighted else ""
    text = f"the loss adds the log-probability {what}with a plus: descent makes what was drawn"
    text += " with a large weight less likely" if weighted else " less likely"
    advice = "put a minus in front: loss = -(log_prob * advantage).mean(), unless these are costs"
    return [Finding("policy-sign", "warn", text, advice, where)]


FALLS = 3.0  # times the size of its first value, below 0
EXPLODES = 100.0  # times it, or 1 where it is smaller


def unbounded_loss(record: Record) -> list[Finding]:
    """A loss must have a lower end.

    A square, an exponential or a cross-entropy that is taken away from the loss can grow without
    end, and the optimizer sees to it. It is a sign that is wrong: of a KL term, of a likelihood, of
    a penalty. Losses of two opponents, of which one gains what the other loses, are meant.
    """
    losses = [event for event in record.all("backward") if event.get("loss") is not None]
    if len(record.by_optimizer) > 1 or len(losses) < 20:
        return []
    names = []
    for event in record.walked:
        signed = [
            name
            for name, sign, factor, weight, _ in event.get("terms", ())
            if name != LOG_PROBABILITY and _sign(sign, factor, weight) < 0
        ]
        names.append(set(signed))
    if not names:
        return []
    usual = {
        name for name in set().union(*names) if sum(name in n for n in names) > USUAL * len(names)
    }
    third = len(losses) // 3
    first, last = losses[0]["loss"], sum(event["loss"] for event in losses[-third:]) / third
    if not usual or not last < -FALLS * abs(first) or not last < losses[third]["loss"]:
        return []
    what = " and ".join(sorted(usual))
    text = f"{what} is taken away from the loss, which has no lower end then: it went from"
    text += f" {first:.3g} to {last:.3g}"
    advice = "see that each term has the sign that makes it small where the answer is right"
    severity: Severity = "fail" if last < -EXPLODES * max(1.0, abs(first)) else "warn"
    return [Finding("loss-sign", severity, text, advice, losses[-1]["at"], last, first)]


def _sign(sign: int, factor: float, weight: str) -> int:
    """The sign of a term's part in the loss; 0 where it is not known."""
    if weight == "mixed" or not factor:
        return 0
    return sign * (1 if factor > 0 else -1) * (-1 if weight == "negative" else 1)
