"""What the observer wrote, for the rules: events in order, and the questions that rules share.

Kinds of events (`k`), each with `n`, the optimizer steps before it:

forward   a root module: `model`, `train`, `active` of `watched` (dropout and batch norm that are in
          train mode), `grad`, `at` (the user's line), `by` (the calling line), `index`, `rows`;
          closely `others` (a number for all inputs but the first); without gradients or in eval
          mode `look` and `averages` (a few numbers of its weights, of its norms' averages);
          without `route` (a number for the lines that lead to it), with `twin` (the index of a
          pass with the same samples and answers since a backward pass; its own: of two halves)
backward  `loss`, `factor` (the constants it was multiplied with), `leaf` (it has no graph); looked
          at closely also `leaves` (index of a set of parameters), `forwards`, `pairs` (what enters
          a loss), `nodes`, `summed` (values that the loss is a sum of; None: not known),
          `balance` (rows and factor of a term that is a sum, beside one that is a mean),
          `joined` (indices of forward passes whose results are compared, in lists)
step      `optimizer`, `lr`, `cleared` (since its step before), `back` and `lost` (indices of
          backward events that it uses, or that were cleared), `none`, `of`; closely `norm`;
          the first one of a pass `reset` (weights are not those that a step left)
loss      a loss function: `name`, `shapes`, `value`, `classes`, `kinds`, `low`, `high`,
          `rows` and `labels` of single samples; closely `target` (a number for its values)
optimizer one was made: `parameters`, `reset` (their values are not those that a step left)
pass      over a loader: `batches`, `ordered`, `given` (its first samples, before the script)
clip      of gradients: `fresh` (they were computed since a step used the ones before)
loaded    a state into a `module`: entries `given`, `fitting`; `name`, `own` (the first keys)
first weights  of a model that were loaded: `alike` (cosines with what was loaded), `values`
others    `clear`, `schedule`, `kept`, `seed`, `cut`
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

FORMAT = 1

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """One process that trained something."""

    events: Sequence[Event]
    steps: int = 0  # of the optimizer that stepped most
    reason: str = "ended"  # or: steps, validations, time, running (it was killed)
    framework: str = ""
    rank: int = 0
    seconds: float = 0.0
    moved: bool = False  # weights changed although no optimizer stepped
    cut_from: int | None = None  # the step from which passes over loaders were short
    optimizers: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    leaf_sets: Sequence[Sequence[int]] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    experiments: Mapping[str, Any] = field(default_factory=dict)  # on copies (`experiments.py`)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Record":
        """From what the observer wrote; keys that are not known are left out."""
        known = cls.__dataclass_fields__
        return cls(**{key: value for key, value in document.items() if key in known})

    def all(self, *kinds: str) -> list[Event]:
        """The events of these kinds."""
        return [event for event in self.events if event["k"] in kinds]

    @cached_property
    def walked(self) -> list[Event]:
        """The backward passes whose graph was followed."""
        return [event for event in self.all("backward") if "leaves" in event]

    def leaves(self, backward: Event) -> frozenset[int]:
        """The parameters below a loss."""
        return frozenset(self.leaf_sets[backward["leaves"]])

    @cached_property
    def trained(self) -> frozenset[int]:
        """The parameters below any loss."""
        return frozenset().union(*(self.leaves(event) for event in self.walked))

    @cached_property
    def held(self) -> frozenset[int]:
        """The parameters of all optimizers."""
        known = (*self.all("optimizer"), *self.all("group"))
        return frozenset(number for event in known for number in event["parameters"])

    @cached_property
    def training_sites(self) -> frozenset[tuple[Any, ...]]:
        """Model and lines of the forward passes that some loss was computed from."""
        by_index = {event["index"]: event for event in self.all("forward")}
        return frozenset(
            site(by_index[index])
            for event in self.walked
            for index in event["forwards"]
            if index in by_index
        )

    @cached_property
    def training_indices(self) -> frozenset[int]:
        """The forward passes whose result is differentiated.

        One line may serve training and validation. Where graphs hold one pass of a line, it is the
        last before the backward pass; where they hold several (a sequence, an episode), all are.
        """
        lines = {event["index"]: site(event) for event in self.all("forward")}
        several = set()
        for event in self.walked:
            found = [lines[index] for index in event["forwards"] if index in lines]
            several |= {line for line in found if found.count(line) > 1}
        waiting: dict[tuple[Any, ...], list[int]] = {}
        indices: set[int] = set()
        for event in self.events:
            if event["k"] == "forward" and event["grad"] and site(event) in self.training_sites:
                waiting.setdefault(site(event), []).append(event["index"])
            elif event["k"] == "backward":
                for line, passes in waiting.items():
                    indices.update(passes if line in several else passes[-1:])
                waiting = {}
        return frozenset(indices)

    @cached_property
    def training_forwards(self) -> list[Event]:
        """Forward passes whose result is differentiated."""
        return [event for event in self.all("forward") if event["index"] in self.training_indices]

    @cached_property
    def trained_models(self) -> frozenset[int]:
        """The models of these passes."""
        return frozenset(event["model"] for event in self.training_forwards)

    def steps_of(self, optimizer: int) -> list[Event]:
        """The steps of one optimizer."""
        return [event for event in self.all("step") if event["optimizer"] == optimizer]

    @cached_property
    def by_optimizer(self) -> dict[int, list[Event]]:
        """Optimizers that stepped, with their steps."""
        return {
            number: self.steps_of(number)
            for number in dict.fromkeys(event["optimizer"] for event in self.all("step"))
        }

    def class_of(self, optimizer: int) -> str:
        """`SGD`."""
        return str(self.optimizers.get(str(optimizer), {}).get("class", "the optimizer"))

    def names(self, numbers: Sequence[int], most: int = 3) -> str:
        """`fc.weight, fc.bias and 4 more`."""
        found = [self.parameters.get(str(number), {}).get("name") or "" for number in numbers]
        named = [name for name in found if name]
        more = len(found) - min(len(named), most)
        text = ", ".join(named[:most])
        if not named:
            return f"{len(found)} parameters"
        return f"{text} and {more} more" if more else text

    @cached_property
    def validation_blocks(self) -> list[list[Event]]:
        """Forward passes that nothing is learned from, between two steps, after a loader's pass.

        A single one beside the batch that is trained (a teacher, samples of a generator) is none.
        """
        blocks: list[list[Event]] = []
        block: list[Event] = []
        begun = False
        for event in self.events:
            if event["k"] == "pass":
                if begun and block:
                    blocks.append(block)
                begun, block = True, []
            elif event["k"] in ("step", "backward"):
                if begun and block:
                    blocks.append(block)
                begun, block = False, []
            elif event["k"] == "forward" and begun:
                if event["index"] in self.training_indices:
                    begun, block = False, []
                else:
                    block.append(event)
        if begun and block:
            blocks.append(block)
        return [block for block in blocks if block[0]["n"] > 0]

    @cached_property
    def evaluations(self) -> list[list[Event]]:
        """Forward passes in eval mode between two steps, of trained models, without a loader.

        Those that other lines lead to are another evaluation.
        """
        known = {event["index"] for block in self.validation_blocks for event in block}
        blocks: list[list[Event]] = [[]]
        for event in self.events:
            if event["k"] in ("step", "backward", "pass"):
                blocks.append([])
            elif event["k"] != "forward" or event["grad"] or event["train"]:
                continue
            elif event["index"] not in known and event["model"] in self.trained_models:
                if blocks[-1] and blocks[-1][-1].get("route") != event.get("route"):
                    blocks.append([])
                blocks[-1].append(event)
        return [block for block in blocks if block and block[0]["n"] > 0]


def site(forward: Event) -> tuple[Any, ...]:
    """What tells the training forward passes from the others."""
    return forward["model"], forward["at"], forward["by"], forward["grad"]


@dataclass(frozen=True)
class Crash:
    """An exception that ended the script: the user's lines that led to it, and what it says."""

    frames: Sequence[str]  # `train.py:57: loss = criterion(output, target)`, the last one raised
    error: str  # `ValueError: no such data`; of several lines, all

    def lines(self) -> list[str]:
        """As they are printed."""
        return [*self.frames, *self.error.splitlines()]


def crash(folder: Path) -> Crash | None:
    """The first exception that ended a process of the command; None where none is known."""
    for path in sorted(folder.glob("crash-*.json"), key=lambda path: path.stat().st_mtime):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # a process that was killed while it wrote
        return Crash(document["frames"], document["error"])
    return None


def read(folder: Path) -> list[Record]:
    """The records of a command in which something was trained, the first rank first."""
    found = []
    for path in sorted(folder.glob("record-*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # a process that was killed while it wrote
        if document.get("format") == FORMAT:
            found.append(Record.of(document))
    return sorted(found, key=lambda record: (record.rank, -record.steps))
