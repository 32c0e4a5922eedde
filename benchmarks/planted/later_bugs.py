"""The set-ups with one bug each that were written after the rules, and the rules that name them."""

from collections.abc import Callable
from typing import Any

from planted import later_data, later_losses, later_models
from planted.parts import RAISED, Case, import_name, name_of, plain

m, d, s = later_models, later_data, later_losses
Builder = Callable[..., Any]
RAW = ("data.normalize=false", f"model.name={import_name(plain)}")
COLOUR = ("data.name=planted.parts:sound_patterns",)


def _case(key: str, builder: Builder, rules: str, *others: str, legal: bool = False) -> Case:
    prefix = {"model.name": "", "train.loss": "loss-", "data.name": "data-"}[key]
    overrides = (f"{key}={import_name(builder)}", *others)
    return Case(prefix + name_of(builder), overrides, frozenset(rules.split()), legal)


def _model(builder: Builder, rules: str, *others: str, legal: bool = False) -> Case:
    return _case("model.name", builder, rules, *others, legal=legal)


def _loss(builder: Builder, rules: str = "loss", *, legal: bool = False) -> Case:
    return _case("train.loss", builder, rules, legal=legal)


def _data(builder: Builder, rules: str, *others: str, legal: bool = False) -> Case:
    return _case("data.name", builder, rules, *others, legal=legal)


LATER_BUGS = (
    _model(m.returns_a_pair, f"outputs {RAISED}"),
    _model(m.returns_nothing, f"outputs {RAISED}"),
    _model(m.returns_a_dictionary, f"outputs {RAISED}"),
    _model(m.mean_over_images, f"outputs {RAISED}"),
    _model(m.mean_of_images_expanded, "batch-independence input-used"),
    _model(m.equal_logits, "outputs input-used gradient-flow"),
    _model(m.sorted_logits, "outputs overfit-tiny"),
    _model(m.exponential_output, "outputs"),
    _model(m.layer_norm_on_logits, "outputs"),
    _model(m.half_precision_overflow, "outputs activations"),
    _model(m.changed_after_sigmoid, "gradient-flow"),
    _model(m.product_of_zeros, "gradient-flow activations input-used"),
    _model(m.no_activations, "activations", legal=True),
    _model(m.activation_result_dropped, "activations", legal=True),
    _model(m.changes_its_input, "outputs input-used inputs", legal=True),
    _model(m.every_other_call, "train-eval"),
    _model(m.numpy_noise, "train-eval"),
    _model(m.norm_without_statistics, "batch-independence train-eval", legal=True),
    _model(m.skipped_in_eval, "train-eval"),
    _model(m.dropout_of_everything, "activations outputs input-used train-eval"),
    _model(m.growing_residuals, "activations initial-loss gradient-flow"),
    _model(m.features_clamped_away, "gradient-flow activations input-used"),
    _model(m.permuted_again, f"outputs {RAISED}", *COLOUR),
    _model(m.flattened_with_the_batch, f"outputs {RAISED}"),
    _model(m.head_of_one_unit, "activations overfit-tiny outputs", legal=True),
    _model(m.orphaned_after_copy, "gradient-flow trainable-parameters", legal=True),
    _loss(s.inverted_focal),
    _loss(s.inverted_binary),
    _loss(s.temperature_1000, legal=True),
    _loss(s.worst_image),
    _loss(s.heavy_penalty, legal=True),
    _loss(s.returns_a_number, f"loss {RAISED}"),
    _loss(s.running_total, f"loss {RAISED}"),
    _loss(s.two_weights, f"loss {RAISED}"),
    _loss(s.no_reduction, f"loss {RAISED}"),
    _loss(s.noisy_targets),
    _data(d.label_drawn_on_access, "labels learns"),
    _data(d.sorted_train_labels, "labels learns split"),
    _data(d.resized_to_one_pixel, "inputs", legal=True),
    _data(d.truncated_to_integers, "inputs"),
    _data(d.standardised_twice, "inputs", *RAW, legal=True),
    _data(d.ten_images_repeated, "inputs labels", legal=True),
    _data(d.some_val_copies, "split", legal=True),
    _data(d.neighbouring_frames, "split", legal=True),
    _data(d.val_zoomed, "split"),
    _data(d.val_mirrored, "split"),
    _data(d.val_turned, "split"),
    _data(d.val_grey, "split", legal=True),
    _data(d.val_labels_reversed, "split"),
    _data(d.val_labels_missing, f"labels split {RAISED}"),
    _data(d.one_image_of_another_size, f"inputs split {RAISED}"),
    _data(d.swapped_halves, "labels learns split"),
    _model(m.reversed_gradient, "gradient-flow", legal=True),
    _model(m.gradient_hooked_away, "gradient-flow"),
    _model(m.detached_branch, "gradient-flow"),
    _model(m.priors_alone, "input-used gradient-flow batch-independence"),
    _model(m.tied_classes, "outputs"),
    _model(m.shuffled_batch, "train-eval batch-independence"),
    _model(m.summed_along_the_batch, "batch-independence"),
    _model(m.positive_weights, "activations initial-loss"),
    _model(m.nothing_left, f"outputs {RAISED}"),
    _model(m.frozen_copy_each_call, "trainable-parameters train-eval"),
    _model(m.sees_one_row, "input-used", legal=True),
    _loss(s.nll_of_probabilities),
    _loss(s.targets_less_one, f"loss {RAISED}"),
    _loss(s.own_prediction_weighted),
    _loss(s.distance_to_uniform),
    _data(d.noise_for_images, "learns inputs"),
    _data(d.val_of_another_set, "split"),
    _data(d.train_darkened, "split"),
    _data(d.every_label_zero, f"labels {RAISED}"),
    _data(d.label_of_255, "labels"),
    Case(
        "set-crop-off-the-edge", ("augment.crop=40",), frozenset({"inputs", "learns", RAISED}), True
    ),
)
