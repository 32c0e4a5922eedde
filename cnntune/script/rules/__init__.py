"""The rules: functions from a record of a script's loop to findings.

A rule's docstring is the lesson that `cnntune sanity --explain RULE` prints. The order is that of
their worth: what cannot work comes first. A rule that raises costs its own verdict only.
"""

import inspect
from collections.abc import Callable

from cnntune.findings import Finding
from cnntune.script.record import Record
from cnntune.script.rules import (
    contracts,
    experiments,
    first_values,
    gradients,
    losses,
    modes,
    optimizers,
    probes,
    samples,
)

Rule = Callable[[Record], list[Finding]]

RULES: dict[str, Rule] = {
    "never-stepped": gradients.never_stepped,
    "optimizer-parameters": optimizers.optimizer_parameters,
    "missing-gradients": gradients.missing_gradients,
    "loss-graph": gradients.loss_graph,
    "loss-input": losses.loss_input,
    "log-probabilities": losses.log_probabilities,
    "loss-contract": contracts.loss_contract,
    "class-weights": contracts.class_weights,
    "loss-sign": contracts.unbounded_loss,
    "policy-sign": contracts.policy_sign,
    "samples-apart": probes.samples_apart,
    "future-hidden": probes.future_hidden,
    "accumulation": losses.accumulation,
    "missing-zero-grad": gradients.missing_zero_grad,
    "cleared-gradients": gradients.cleared_gradients,
    "eval-while-training": modes.eval_while_training,
    "train-while-validating": modes.train_while_validating,
    "dropout-in-eval": modes.dropout_in_eval,
    "split": samples.validation_overlap,
    "partial-split": samples.partial_overlap,
    "folds-apart": samples.folds_apart,
    "labels-stay": samples.labels_stay,
    "drawn-samples": samples.drawn_samples,
    "alike-samples": samples.alike_samples,
    "same-batch": samples.same_batch,
    "one-class-batches": samples.one_class_batches,
    "alike-views": samples.alike_views,
    "copied-tokens": samples.copied_tokens,
    "loss-shapes": losses.loss_shapes,
    "loss-terms": losses.loss_terms,
    "learning-rate": optimizers.learning_rate,
    "scheduler": optimizers.scheduler_pace,
    "remade-optimizer": optimizers.remade_optimizer,
    "weights-move": optimizers.weights_move,
    "clipping": losses.clipping,
    "mixed-precision": losses.mixed_precision,
    "kept-graphs": gradients.kept_graphs,
    "stale-copy": modes.stale_copy,
    "restored-alias": modes.restored_alias,
    "loaded-nothing": modes.loaded_nothing,
    "overwritten-weights": modes.overwritten_weights,
    "norm-averages": modes.norm_averages,
    "argmax-axis": modes.argmax_axis,
    "threshold": modes.threshold,
    "seed-in-loop": modes.seed_in_loop,
    "finite-loss": first_values.finite_loss,
    "initial-loss": first_values.initial_loss,
    "stuck-loss": first_values.stuck_loss,
    "first-gradients": first_values.first_gradients,
    "inputs": first_values.inputs,
    "labels": first_values.labels,
    "frozen-weights": optimizers.frozen_weights,
    "equal-units": optimizers.equal_units,
    "layer-settings": optimizers.layer_settings,
    "batch-norm": modes.batch_of_one,
    "teacher-mode": modes.teacher_mode,
    "changing-validation": samples.changing_validation,
    "input-used": experiments.input_used,
    "learns": experiments.learns,
    "rate-too-high": experiments.rate_too_high,
    "validation-alike": experiments.validation_alike,
    "target-hidden": probes.target_hidden,
    "inputs-used": probes.inputs_used,
    "padding-ignored": probes.padding_ignored,
    "loss-goal": probes.loss_goal,
    "mask-follows-image": probes.mask_follows_image,
    "image-layout": probes.image_layout,
    "same-scale": probes.same_scale,
    "schedule-length": probes.schedule_length,
}


def judge(record: Record) -> list[Finding]:
    """What all rules find in one record."""
    found: list[Finding] = []
    for name, rule in RULES.items():
        try:
            found += rule(record)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            text = f"could not be judged: {type(error).__name__}: {error}"
            found.append(Finding(name, "info", text))
    for hook, problem in record.errors.items():
        found.append(
            Finding("observer", "info", f"{hook} failed, what it sees is missing: {problem}")
        )
    return found


def explain(rule: str) -> str:
    """The docstring of a rule."""
    return inspect.getdoc(RULES[rule]) or ""
