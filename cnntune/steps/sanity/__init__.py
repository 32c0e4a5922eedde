"""Sanity checks of data, loss, network and training: lecture steps 1 and 2, and more.

A rule is a function from a `Subject` to findings. Its docstring is the explanation that
`cnntune sanity --explain RULE` prints. Rules test for causes: the images themselves, the loss on
hand-made logits, the autograd graph, the output of each layer.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from cnntune.config.problems import unknown
from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.errors import RecipeError
from cnntune.findings import Finding
from cnntune.steps.sanity import (
    augmentation,
    gradients,
    hyperparameters,
    input_use,
    inputs,
    labels,
    learning,
    loss,
    modes,
    network,
    outcome,
    outputs,
    overfit,
    signal,
    split,
    tiny,
)
from cnntune.steps.sanity.subject import Subject
from cnntune.steps.sanity.symptom import Symptom
from cnntune.training.contracts import check_logits
from cnntune.training.device import seeded
from cnntune.training.precision import whole_float32
from cnntune.user_code.borders import explaining

Rule = Callable[[Subject], list[Finding]]
TrainedRule = Callable[[Subject, tiny.TinyOverfit], list[Finding]]

DATA_RULES: dict[str, Rule] = {
    "inputs": inputs.inputs,
    "labels": labels.labels,
    "split": split.split,
}
FIRST_RULES: dict[str, Rule] = {
    "outputs": outputs.outputs,
    "loss": loss.loss,
    "trainable-parameters": network.trainable_parameters,
}
NETWORK_RULES: dict[str, Rule] = {
    "initial-loss": outputs.initial_loss,
    "activations": network.activations,
    "gradient-flow": gradients.gradient_flow,
    "batch-independence": modes.batch_independence,
    "optimizer": hyperparameters.optimizer,
    "augmentation": augmentation.augmentation,
}
TRAINED_RULES: dict[str, TrainedRule] = {
    "overfit-tiny": overfit.overfit_tiny,
    "train-eval": modes.train_eval,
    "input-used": input_use.input_used,
    "learns": learning.learns,
    "signal": signal.signal,
}
OUTSIDE_LAYERS = (
    "inputs",
    "labels",
    "split",
    "loss",
    "batch-independence",
    "train-eval",
    "augmentation",
)
RULES = (*DATA_RULES, *FIRST_RULES, *NETWORK_RULES, *TRAINED_RULES)


def check(recipe: Recipe, data: Data, device: torch.device) -> Iterator[Finding]:
    """Run all rules on fresh copies of the model; the recipe and the data are not modified.

    If not even one training step is possible, the rules that need one are skipped. From the first
    symptom or warning on, findings wait until all experiments have run, which decide what they are
    (`outcome`). Where a cause is outside of the layers, a lost signal is its consequence, and no
    second failure; nor is it one where the network learns all the same.

    Raises:
        UserCodeError: if the user's model or loss code raises.
    """
    rows: list[Finding] = []
    shown = 0
    failed: set[str] = set()
    subject = _subject(recipe, data, device)
    for found in _findings(subject):
        if found.severity == "fail":
            outside, damage = failed & {*OUTSIDE_LAYERS}, failed & {*outcome.EXPERIMENTS}
            if found.rule == "signal" and (outside or not damage):
                found = replace(found, severity="info")
            failed.add(found.rule)
        rows.append(found)
        if shown == len(rows) - 1 and found.severity != "warn":
            shown += 1
            yield found
    with explaining(), whole_float32():
        yield from outcome.judged(subject, rows)[shown:]


def _subject(recipe: Recipe, data: Data, device: torch.device) -> Subject:
    with explaining(), whole_float32():
        return Subject.of(recipe, data, device)


def _findings(subject: Subject) -> Iterator[Finding]:
    alarmed: set[str] = set()
    recipe, device = subject.recipe, subject.device
    with explaining(), whole_float32():
        blocking = _blocking_rules(subject)
        for name, rule in (blocking or DATA_RULES | FIRST_RULES).items():
            with seeded(recipe.seed, name, device=device):
                found = rule(subject)
            alarmed |= _noted(subject, found)
            yield from found
        if blocking:
            yield outputs.SKIPPED
            return
        if fault := outputs.first_step(subject):
            yield outputs.SKIPPED if fault.rule in alarmed else fault
            return
        with seeded(recipe.seed, "outputs", device=device):
            check_logits(subject.untrained, subject.inputs[:2], subject.classes, recipe.model.name)
        for name, rule in NETWORK_RULES.items():
            with seeded(recipe.seed, name, device=device):
                found = rule(subject)
            alarmed |= _noted(subject, found)
            yield from found
        with seeded(recipe.seed, "overfit-tiny", device=device):
            tiny_overfit = tiny.overfit_tiny_batch(subject)
        for name, trained_rule in TRAINED_RULES.items():
            with seeded(recipe.seed, name, device=device):
                found = trained_rule(subject, tiny_overfit)
            _noted(subject, found)
            # What `learns` names by replacing it is left out where its own rule has said more.
            yield from (f for f in found if f.rule == name or f.rule not in alarmed)


def _noted(subject: Subject, found: list[Finding]) -> set[str]:
    """The rules that raise an alarm; suspects and sure causes are noted for the experiments."""
    subject.suspects.update(f.part for f in found if isinstance(f, Symptom))
    subject.causes.update(f.rule for f in found if outcome.is_cause(f))
    return {f.rule for f in found if f.severity in ("fail", "warn")}


def _blocking_rules(subject: Subject) -> dict[str, Rule]:
    """The rules that report data no other rule can work with; empty if the data is usable.

    That is: labels outside the classes, pixels that are NaN, or images that are all the same.
    Findings of other rules would only be consequences of these.
    """
    if not labels.usable(subject.data):
        return {"inputs": inputs.inputs, "labels": labels.labels}
    usable = inputs.finite(subject) and not inputs.all_alike(subject)
    return {} if usable else {"inputs": inputs.inputs}


def explain(rule: str) -> str:
    """The docstring of a rule.

    Raises:
        RecipeError: if there is no such rule.
    """
    rules = DATA_RULES | FIRST_RULES | NETWORK_RULES | TRAINED_RULES
    if rule not in rules:
        raise RecipeError(f"--explain: {unknown(rule, RULES, 'rule')}")
    return inspect.getdoc(rules[rule]) or ""
