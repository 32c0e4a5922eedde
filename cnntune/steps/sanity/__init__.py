"""Is the set-up sound? Lecture steps 1 and 2, and every other check that finds what is broken.

A rule is a function from a `Subject` to findings; its docstring is the lesson, which `--explain`
prints. Rules look at causes: what the images are, what the loss does to logits made by hand, where
the graph ends, what a layer puts out.
"""

import inspect
from collections.abc import Callable, Iterator

import torch

from cnntune.config.problems import unknown
from cnntune.config.recipe import Recipe
from cnntune.data import Data
from cnntune.errors import RecipeError
from cnntune.findings import Finding
from cnntune.steps.sanity import (
    gradients,
    hyperparameters,
    input_use,
    inputs,
    labels,
    learning,
    loss,
    modes,
    network,
    outputs,
    overfit,
    split,
    tiny,
)
from cnntune.steps.sanity.subject import Subject
from cnntune.training.contracts import check_logits
from cnntune.training.device import seeded
from cnntune.user_code.borders import explaining

Rule = Callable[[Subject], list[Finding]]
TrainedRule = Callable[[Subject, tiny.Memory], list[Finding]]

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
}
TRAINED_RULES: dict[str, TrainedRule] = {
    "overfit-tiny": overfit.overfit_tiny,
    "train-eval": modes.train_eval,
    "input-used": input_use.input_used,
    "learns": learning.learns,
}
RULES = (*DATA_RULES, *FIRST_RULES, *NETWORK_RULES, *TRAINED_RULES)


def check(recipe: Recipe, data: Data, device: torch.device) -> Iterator[Finding]:
    """Every check of a set-up, on models of its own; nothing of the user's is changed.

    Where not a single step can be trained, the checks that train are left out.

    Raises:
        UserCodeError: where own model or loss code raises.
    """
    with explaining():
        subject = Subject.of(recipe, data, device)
        needs = _unmet(subject)
        for name, rule in (needs or DATA_RULES | FIRST_RULES).items():
            with seeded(recipe.seed, name, device=device):
                found = rule(subject)
            yield from found
        if needs:
            yield outputs.WAITS
            return
        if fault := outputs.first_step(subject):
            yield fault
            return
        with seeded(recipe.seed, "outputs", device=device):
            check_logits(subject.untrained, subject.inputs[:2], subject.classes, recipe.model.name)
        for name, rule in NETWORK_RULES.items():
            with seeded(recipe.seed, name, device=device):
                found = rule(subject)
            yield from found
        with seeded(recipe.seed, "overfit-tiny", device=device):
            memory = tiny.memorise(subject)
        for name, trained_rule in TRAINED_RULES.items():
            with seeded(recipe.seed, name, device=device):
                found = trained_rule(subject, memory)
            yield from found


def _unmet(subject: Subject) -> dict[str, Rule]:
    """The rules that say why no other could say anything.

    Labels lie outside the classes, pixels are NaN, or all images are the same.

    What other rules found there would be consequences, told as if they were faults of their own.
    """
    if not labels.usable(subject.data):
        return {"inputs": inputs.inputs, "labels": labels.labels}
    usable = inputs.finite(subject) and not inputs.all_alike(subject)
    return {} if usable else {"inputs": inputs.inputs}


def explain(rule: str) -> str:
    """The lesson behind a rule.

    Raises:
        RecipeError: where there is no such rule.
    """
    rules = DATA_RULES | FIRST_RULES | NETWORK_RULES | TRAINED_RULES
    if rule not in rules:
        raise RecipeError(f"--explain: {unknown(rule, RULES, 'rule')}")
    return inspect.getdoc(rules[rule]) or ""
