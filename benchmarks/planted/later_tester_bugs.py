"""The set-ups with one bug each that a tester would plant, and the rules that name them."""

from collections.abc import Callable
from typing import Any

from planted import later_tester_data, later_tester_losses, later_tester_models
from planted.parts import RAISED, Case, import_name, name_of, plain

m, d, s = later_tester_models, later_tester_data, later_tester_losses
Builder = Callable[..., Any]
PLAIN = f"model.name={import_name(plain)}"
RAW = ("data.normalize=false", PLAIN)
TRAINED = "optimizer overfit-tiny learns"  # where nothing but the rate of learning is wrong


def _case(key: str, builder: Builder, rules: str, *others: str, legal: bool = False) -> Case:
    prefix = {"model.name": "", "train.loss": "loss-", "data.name": "data-"}[key]
    overrides = (f"{key}={import_name(builder)}", *others)
    return Case(prefix + name_of(builder), overrides, frozenset(rules.split()), legal)


def _model(builder: Builder, rules: str, *, legal: bool = False) -> Case:
    return _case("model.name", builder, rules, legal=legal)


def _loss(builder: Builder, rules: str = "loss", *, legal: bool = False) -> Case:
    return _case("train.loss", builder, rules, legal=legal)


def _data(builder: Builder, rules: str, *others: str, legal: bool = False) -> Case:
    return _case("data.name", builder, rules, *others, legal=legal)


def _settings(name: str, rules: str, *overrides: str, legal: bool = False) -> Case:
    return Case(f"set-{name}", overrides, frozenset(rules.split()), legal)


TESTER_BUGS = (
    _model(m.skip_detached, "gradient-flow", legal=True),
    _model(m.norm_after_logits, "outputs train-eval batch-independence", legal=True),
    _model(m.dead_branch, "activations gradient-flow"),
    _model(m.pixel_for_pooling, "input-used", legal=True),
    _model(m.one_place_left, "input-used activations", legal=True),
    _model(m.zero_weight_norm, "activations gradient-flow input-used"),
    _model(m.layer_norm_with_the_batch, "batch-independence"),
    _model(m.attention_softmax_over_images, "batch-independence"),
    _model(m.features_shuffled_each_call, "train-eval"),
    _model(m.outputs_permuted_each_call, "train-eval"),
    _model(m.never_in_eval_mode, "train-eval batch-independence"),
    _model(m.gelu_output, "outputs"),
    _model(m.normalised_output, "outputs"),
    _model(m.weights_in_buffers, "trainable-parameters", legal=True),
    _model(m.weights_zeroed_each_call, "trainable-parameters activations gradient-flow train-eval"),
    _model(m.deviation_of_ten_in_one_layer, "activations initial-loss outputs"),
    _model(m.hidden_biases_of_100, "activations initial-loss outputs"),
    _model(m.one_stage_frozen, "trainable-parameters", legal=True),
    _model(m.relu_of_negated_relu, "activations gradient-flow input-used"),
    _model(m.bytes_into_tanh, "activations"),
    _model(m.attention_masked_out, "outputs activations"),
    _model(m.softmax_over_one, "gradient-flow trainable-parameters"),
    _model(m.divides_by_255_inside, "activations inputs input-used", legal=True),
    _model(m.channel_mean_subtracted, "input-used activations"),
    _loss(s.mean_of_logits_over_images),
    _loss(s.weighted_by_place, legal=True),
    _loss(s.targets_reversed),
    _loss(s.temperature_of_a_thousandth, "loss initial-loss outputs", legal=True),
    _loss(s.epsilon_of_one, "loss initial-loss"),
    _loss(s.easiest_images),
    _loss(s.penalty_with_wrong_sign),
    _loss(s.clamped_probabilities),
    _data(d.normalised_by_variance, "inputs", *RAW, legal=True),
    _data(d.deviation_of_zero, "inputs", *RAW),
    _data(d.wrapped_bytes, "inputs split learns", legal=True),
    _data(d.val_brightened, "split", legal=True),
    _data(d.train_pixels_scattered, "inputs split learns"),
    _data(d.labels_of_the_next_batch, "labels learns split"),
    _data(d.labels_doubled, "labels", legal=True),
    _data(d.val_letterboxed, "split"),
    _data(d.blended_with_another, "labels learns split", legal=True),
    _data(d.one_image_of_each_class, "inputs labels split"),
    _settings("adamw-lr-1e-7", TRAINED, "train.optimizer=adamw", "train.lr=1e-7"),
    _settings("plain-lr-10", TRAINED, PLAIN, "train.lr=10.0"),
    _settings("momentum-0.999", TRAINED, "train.momentum=0.999", legal=True),
    _settings("weight-decay-1", TRAINED, "train.weight_decay=1.0"),
    _settings(
        "adam-decay-1",
        TRAINED,
        "train.optimizer=adam",
        "train.lr=1e-3",
        "train.weight_decay=1.0",
    ),
    _settings("crop-8-of-8", f"inputs learns {RAISED}", "augment.crop=8", legal=True),
)
