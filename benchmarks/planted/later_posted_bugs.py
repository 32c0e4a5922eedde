"""The set-ups with one bug each that people post about, and the rules that name them."""

from collections.abc import Callable
from typing import Any

from planted import later_posted_data, later_posted_losses, later_posted_models
from planted.parts import RAISED, Case, import_name, name_of, plain

m, d, s = later_posted_models, later_posted_data, later_posted_losses
Builder = Callable[..., Any]
PATTERNS = "data.name=planted.parts:sound_patterns"
RAW = ("data.normalize=false", f"model.name={import_name(plain)}")
TRAINED = "optimizer overfit-tiny learns"  # where nothing but the rate of learning is wrong


def _case(key: str, builder: Builder, rules: str, *others: str, legal: bool = False) -> Case:
    prefix = {"model.name": "", "train.loss": "loss-", "data.name": "data-"}[key]
    overrides = (f"{key}={import_name(builder)}", *others)
    return Case(prefix + name_of(builder), overrides, frozenset(rules.split()), legal)


def _model(builder: Builder, rules: str, *others: str, legal: bool = False) -> Case:
    return _case("model.name", builder, rules, *others, legal=legal)


def _loss(builder: Builder, *, legal: bool = False) -> Case:
    return _case("train.loss", builder, "loss", legal=legal)


def _data(builder: Builder, rules: str, *others: str, legal: bool = False) -> Case:
    return _case("data.name", builder, rules, *others, legal=legal)


def _settings(name: str, rules: str, *overrides: str, legal: bool = False) -> Case:
    return Case(f"set-{name}", overrides, frozenset(rules.split()), legal)


POSTED_BUGS = (
    _model(m.softplus_output, "outputs"),
    _model(m.relu6_output, "outputs"),
    _model(m.log_softmax_over_batch, "batch-independence outputs"),
    _model(m.dropout_of_95_percent, "train-eval activations", legal=True),
    _model(m.tensorflow_momentum, "train-eval", legal=True),
    _model(m.scaled_parameter, "trainable-parameters"),
    _model(m.transformer_over_batch, "batch-independence"),
    _model(m.divided_by_batch_maximum, "batch-independence"),
    _model(m.summed_pooling, "initial-loss outputs activations", PATTERNS, legal=True),
    _model(m.gate_as_a_number, "gradient-flow trainable-parameters", legal=True),
    _model(m.place_of_highest_score, "gradient-flow trainable-parameters", legal=True),
    _model(m.inference_mode_features, f"gradient-flow {RAISED}"),
    _model(m.only_biases_trained, "trainable-parameters", legal=True),
    _model(m.zero_gains, "activations gradient-flow input-used"),
    _model(m.slope_of_one, "activations", legal=True),
    _model(m.slope_of_ten, "activations initial-loss"),
    _model(m.head_forgotten, f"outputs {RAISED}"),
    _model(m.positions_along_batch, "batch-independence train-eval"),
    _model(m.features_cached, "input-used train-eval batch-independence gradient-flow"),
    _model(m.random_input, "input-used train-eval"),
    _model(m.first_image_for_all, "batch-independence input-used"),
    _model(m.signed_square_root, "gradient-flow"),
    _model(m.softmax_as_activation, "activations gradient-flow", legal=True),
    _model(m.logits_divided_by_1000, "outputs gradient-flow initial-loss", legal=True),
    _model(m.weights_clamped_in_forward, "trainable-parameters activations train-eval"),
    _model(m.initialised_in_forward, "trainable-parameters train-eval"),
    _model(m.gain_of_ten, "activations initial-loss"),
    _model(m.product_for_sum, "activations gradient-flow"),
    _loss(s.binary_of_softmax),
    _loss(s.divergence_swapped),
    _loss(s.weight_of_one_class_zero, legal=True),
    _loss(s.hinge_with_wrong_sign),
    _loss(s.nll_of_log_sigmoid),
    _loss(s.summed_then_divided_by_classes, legal=True),
    _loss(s.softmax_of_targets, legal=True),
    _loss(s.clamped_from_above),
    _loss(s.reshaped_targets),
    _loss(s.one_hot_of_the_prediction),
    _data(d.one_channel_off, "inputs", *RAW, legal=True),
    _data(d.labels_between_0_and_1, f"labels {RAISED}"),
    _data(d.argmax_along_images, "labels learns split"),
    _data(d.val_blurred, "split", legal=True),
    _data(d.val_from_augmented, "split", legal=True),
    _data(d.folders_in_another_order, "split"),
    _data(d.label_in_a_pixel, "inputs labels input-used", legal=True),
    _data(d.label_in_a_training_patch, "inputs labels split", legal=True),
    _data(d.placeholder_images, "inputs labels", legal=True),
    _data(d.sixteen_bits_clipped, "inputs", legal=True),
    _data(d.image_drawn_on_access, "inputs labels learns"),
    _data(d.oversampled_before_split, "split"),
    _data(d.classes_missing_in_val, "split labels", legal=True),
    _data(d.three_val_images, "split", legal=True),
    _data(d.cropped_to_a_corner, "inputs labels learns", legal=True),
    _data(d.labels_of_half_lost, "labels split learns", legal=True),
    _data(d.train_without_noise_val_with, "split", legal=True),
    _settings("lr-100", TRAINED, "train.lr=100.0"),
    _settings("lr-1e-6", TRAINED, "train.lr=1e-6"),
    _settings(
        "adamw-decay-100",
        TRAINED,
        "train.optimizer=adamw",
        "train.lr=1e-2",
        "train.weight_decay=100.0",
    ),
    _settings("label-smoothing-0.9", f"{TRAINED} loss", "train.label_smoothing=0.9", legal=True),
    _settings("cutout-of-all", "inputs learns", "augment.cutout=16", legal=True),
    _settings("brightness-100", "inputs learns", PATTERNS, "augment.brightness=100.0", legal=True),
    _settings("warmup-too-long", f"{TRAINED} {RAISED}", "train.warmup_epochs=20.0"),
)
