"""Experiments on what the observer kept: copies of a model trained on the batches that were seen.

Like the observer it runs in the Python of the script, and needs the standard library and `torch`
alone. It trains copies only, and returns numbers; the rules say what they mean.
"""

from __future__ import annotations

import copy
import math
import time
from typing import Any

SECONDS = 12.0  # for all experiments together
SLOW_STEP = 0.4  # seconds; a network this slow is left alone
MEMORIZE_STEPS = 100
PATIENT_STEPS = 300  # where the first attempts failed: deep networks without norms start slowly
LEARN_STEPS = 800
BLANK_STEPS = 160
CHECK_EVERY = 20  # steps, of the held-out loss
KNOWN = 0.7  # of the loss with blank inputs, on the batches that are learned
CARRIES = 0.9  # of it, on the others
LEARNED_WELL = 0.75  # of it, before the validation set is compared with them
RATE_STEPS = 60
RATES = (1e-3, 1e-2)  # of Adam
FACTORS = (1.0, 0.1, 0.01, 0.001)  # of the script's own learning rate
MEMORIZED = 0.1  # of the first loss
MIN_EXAMPLES = 8
HELD_OUT = 0.3  # of the batches
LEAKED = 0.1  # share of a batch's samples that earlier batches may hold
HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip


class Example:
    """One training batch: what the model got, and how the loss followed from its result.

    `loss` takes the model's output, `exchanged` too, with the targets of other samples. `rows` are
    fingerprints of the samples.
    """

    def __init__(
        self,
        args: Any,
        keywords: Any,
        loss: Any,
        rows: list[int],
        targets: Any,
        exchanged: Any = None,
    ) -> None:
        self.args, self.keywords, self.loss = args, keywords, loss
        self.rows, self.targets, self.exchanged = rows, targets, exchanged

    def blank(self, torch: Any) -> Example:
        """The batch without what tells its samples apart: the mean sample, or the first tokens."""
        count = len(self.rows)

        def same(value: Any) -> Any:
            if isinstance(value, torch.Tensor) and value.dim() and len(value) == count:
                row = value.mean(0, keepdim=True) if value.is_floating_point() else value[:1]
                return row.expand_as(value).clone()
            return value

        args = tuple(same(value) for value in self.args)
        keywords = {key: same(value) for key, value in self.keywords.items()}
        return Example(args, keywords, self.loss, self.rows, self.targets)


class Case:
    """A model with its first weights, its batches in order, and its optimizer's class."""

    def __init__(
        self,
        model: Any,
        state: Any,
        train: bool,
        examples: list[Example],
        optimizer: Any,
        validation: Any = (),
    ) -> None:
        self.model, self.state, self.train, self.examples = model, state, train, examples
        self.optimizer = optimizer  # (class, settings) or None
        self.validation: list[Example] = list(validation)

    def fresh(self, torch: Any) -> Any:
        """A copy with the first weights, without the user's hooks."""
        known = {id(v): None for k, v in vars(self.model).items() if k in ("_trainer", "_fabric")}
        model = copy.deepcopy(self.model, known)
        for module in model.modules():
            for name in HOOKS:
                hooks = vars(module).get(name)
                if hooks and any(not of_torch(hook) for hook in hooks.values()):
                    hooks.clear()
        with torch.no_grad():
            for tensor, first in zip([*model.parameters(), *model.buffers()], self.state):
                tensor.copy_(first)
        for parameter in model.parameters():
            parameter.grad = None
        return model.train(self.train)


def of_torch(hook: Any) -> bool:
    """Whether a hook is part of torch, as that of weight norm."""
    inner = getattr(hook, "hook", hook)
    module = getattr(inner, "__module__", None) or type(inner).__module__
    return str(module).split(".")[0] == "torch"


def run(case: Case, torch: Any, seconds: float = SECONDS) -> dict[str, Any]:
    """All experiments that fit into the time; empty where even a step is slow."""
    until = time.monotonic() + min(seconds, SECONDS)
    start = time.monotonic()
    step(case.fresh(torch), None, case.examples[0])
    begun = time.monotonic()
    step(case.fresh(torch), None, case.examples[0])
    if time.monotonic() - begun > SLOW_STEP or time.monotonic() - start > SECONDS / 4:
        return {"skipped": "a training step is slow"}
    found: dict[str, Any] = {"memorized": memorize(case, torch, until)}
    if case.optimizer is not None:
        found["rates"] = rates(case, torch, until)
    found["learned"] = learn(case, torch, until)
    return found


def step(model: Any, optimizer: Any, example: Example) -> float:
    """One step, or a backward pass without one; the loss before it."""
    loss = example.loss(model(*example.args, **example.keywords))
    for parameter in model.parameters():
        parameter.grad = None
    loss.backward()
    if optimizer is not None:
        optimizer.step()
    return float(loss.detach())


def trained(
    case: Case, torch: Any, examples: list[Example], make: Any, steps: int, until: float
) -> tuple[Any, list[float]]:
    """A copy after some steps on batches by turns, and its losses."""
    model = case.fresh(torch)
    optimizer = make([p for p in model.parameters() if p.requires_grad])
    losses: list[float] = []
    for number in range(steps):
        losses.append(step(model, optimizer, examples[number % len(examples)]))
        done = len(examples) == 1 and losses[-1] < MEMORIZED * abs(losses[0])
        if done or not math.isfinite(losses[-1]) or time.monotonic() > until:
            break
    return model, losses


def adam(torch: Any, rate: float) -> Any:
    """Makes Adam, without decay."""
    return lambda parameters: torch.optim.Adam(parameters, lr=rate)


def end(losses: list[float]) -> float:
    """The mean of the last losses."""
    tail = losses[-5:]
    return sum(tail) / len(tail) if all(map(math.isfinite, tail)) else math.inf


def memorize(case: Case, torch: Any, until: float) -> dict[str, Any]:
    """One batch, with its own inputs and with blank ones: what is the loss afterwards?"""
    real = case.examples[0]
    blank = real.blank(torch)
    found: dict[str, Any] = {"rows": len(real.rows), "distinct": len(set(real.rows))}
    for steps in (MEMORIZE_STEPS, PATIENT_STEPS):
        ends: dict[str, float] = {}
        for name, example in (("real", real), ("blank", blank)):
            for rate in RATES:
                _, losses = trained(case, torch, [example], adam(torch, rate), steps, until)
                ends[name] = min(ends.get(name, math.inf), end(losses))
                if name == "real":
                    found["first"] = losses[0]
                if ends[name] < MEMORIZED * abs(losses[0]):
                    break
        found.update(ends, steps=steps, whole=time.monotonic() <= until)
        if ends["real"] < 0.7 * ends["blank"] or not found["whole"]:
            break
    return found


def learn(case: Case, torch: Any, until: float) -> dict[str, Any] | None:
    """Train on most batches, with their inputs and with blank ones, and measure on the others."""
    batches = first_pass(case.examples)
    count = round(len(batches) * (1 - HELD_OUT))
    if len(batches) < MIN_EXAMPLES:
        return None
    known = {row for example in batches[:count] for row in example.rows}
    train, others = batches[:count], batches[count:]
    found: dict[str, Any] = {"rows": len(known), "held": sum(len(one.rows) for one in others)}
    for name in ("blank", "real"):
        if name == "blank":
            seen, held = [one.blank(torch) for one in train], [one.blank(torch) for one in others]
        else:
            seen, held = train, others
        model = case.fresh(torch)
        optimizer = adam(torch, RATES[0])([p for p in model.parameters() if p.requires_grad])
        losses: list[float] = []
        best, most = math.inf, BLANK_STEPS if name == "blank" else LEARN_STEPS
        while len(losses) < most:
            losses.append(step(model, optimizer, seen[len(losses) % count]))
            if len(losses) % CHECK_EVERY == 0:
                best = min(best, measured(model, held, torch))
                mean = sum(losses[-count:]) / len(losses[-count:])
                known_well = name == "real" and mean < KNOWN * found["blank"]
                enough = LEARNED_WELL if case.validation else CARRIES
                carries = name == "real" and best < enough * found["blank_held"]
                if carries or (known_well and not case.validation) or mean < MEMORIZED * losses[0]:
                    break
            if time.monotonic() > until:
                if name == "real" and best < CARRIES * found["blank_held"]:
                    break
                return None
        found[name] = sum(losses[-count:]) / len(losses[-count:])
        found[f"{name}_held"] = best
        if name == "real" and held[0].exchanged is not None:
            for where, there in (("held", held), ("validation", case.validation)):
                if there:
                    found[f"{where}_own"] = measured(model, there, torch)
                    found[f"{where}_others"] = measured(model, there, torch, exchanged=True)
            found["validated"] = sum(len(one.rows) for one in case.validation)
    return found


def first_pass(examples: list[Example]) -> list[Example]:
    """The batches whose samples were in none before."""
    found: list[Example] = []
    known: set[int] = set()
    for example in examples:
        if sum(row in known for row in example.rows) <= LEAKED * len(example.rows):
            found.append(example)
        known.update(example.rows)
    return found


def measured(model: Any, examples: list[Example], torch: Any, *, exchanged: bool = False) -> float:
    """The mean loss in eval mode, or that with the targets of other samples."""
    training = model.training
    model.eval()
    losses = []
    with torch.no_grad():
        for one in examples:
            loss = one.exchanged if exchanged else one.loss
            losses.append(float(loss(model(*one.args, **one.keywords))))
    model.train(training)
    return sum(losses) / len(losses)


def rates(case: Case, torch: Any, until: float) -> list[list[float]]:
    """The script's own optimizer at its learning rate and below: rate, first and last loss."""
    kind, settings = case.optimizer
    found = []
    for factor in FACTORS:
        rate = settings["lr"] * factor

        def make(parameters: Any, rate: float = rate) -> Any:
            return kind(parameters, **{**settings, "lr": rate})

        _, losses = trained(case, torch, case.examples, make, RATE_STEPS, until)
        if time.monotonic() > until:
            break
        last = losses[-RATE_STEPS // 4 :] if len(losses) == RATE_STEPS else [math.inf]
        found.append([rate, losses[0], sum(last) / len(last)])
    return found
