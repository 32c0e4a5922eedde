"""The set-ups with one bug each, and the rules that name it."""

from collections.abc import Callable
from typing import Any

from planted import bug_data, bug_losses, bug_models
from planted.later_bugs import LATER_BUGS
from planted.later_posted_bugs import POSTED_BUGS
from planted.later_tester_bugs import TESTER_BUGS
from planted.parts import RAISED, Case, import_name, name_of, plain, sound_hues

HUES = (f"data.name={import_name(sound_hues)}",)  # three channels, the first of no use
# Where nothing but the rate of learning is wrong, any rule that trains and says so names it.
TRAINED = ("optimizer", "overfit-tiny", "learns")


def _model(
    builder: Callable[..., Any],
    *rules: str,
    legal: bool = False,
    fast: bool = False,
    others: tuple[str, ...] = (),
) -> Case:
    overrides = (f"model.name={import_name(builder)}", *others)
    return Case(name_of(builder), overrides, frozenset(rules), legal, fast)


def _loss(function: Callable[..., Any], *, legal: bool = False, fast: bool = False) -> Case:
    overrides = (f"train.loss={import_name(function)}",)
    return Case(f"loss-{name_of(function)}", overrides, frozenset({"loss"}), legal, fast)


def _data(
    builder: Callable[..., Any],
    *rules: str,
    legal: bool = False,
    fast: bool = False,
    others: tuple[str, ...] = (),
) -> Case:
    overrides = (f"data.name={import_name(builder)}", *others)
    return Case(f"data-{name_of(builder)}", overrides, frozenset(rules), legal, fast)


def _settings(name: str, *overrides: str, rules: tuple[str, ...], legal: bool = False) -> Case:
    return Case(f"set-{name}", overrides, frozenset(rules), legal)


m, d, s = bug_models, bug_data, bug_losses

OUTPUTS = (
    _model(m.softmax_output, "outputs", fast=True),
    _model(m.softmax_module, "outputs"),
    _model(m.sigmoid_output, "outputs"),
    _model(m.tanh_output, "outputs"),
    _model(m.relu_output, "outputs"),
    _model(m.clamped_output, "outputs", "gradient-flow"),
    _model(m.cosine_without_temperature, "outputs"),
    _model(m.imagenet_head, "outputs", RAISED),
    _model(m.one_output_short, "outputs", RAISED),
    _model(m.spatial_output, "outputs", RAISED),
    _model(m.log_of_inputs, "outputs", "activations", "initial-loss"),
    _model(m.hot_logits, "outputs", "initial-loss", legal=True),
    _model(m.low_temperature, "outputs", "initial-loss", legal=True),
    _model(m.argmax_output, "outputs", "gradient-flow"),
    _model(m.detached_output, "outputs", "gradient-flow"),
    _model(m.constant_output, "outputs", "input-used", "gradient-flow"),
    _model(m.biased_head, "outputs", "initial-loss", legal=True),
)

WIRING = (
    _model(m.frozen_backbone, "trainable-parameters", legal=True),
    _model(m.frozen_head, "trainable-parameters", legal=True),
    _model(m.everything_frozen, "trainable-parameters", RAISED),
    _model(m.layers_in_a_list, "trainable-parameters", fast=True),
    _model(m.layers_in_a_dict, "trainable-parameters"),
    _model(m.weights_without_parameter, "trainable-parameters"),
    _model(m.detach_in_the_middle, "gradient-flow", fast=True),
    _model(m.data_in_the_middle, "gradient-flow"),
    _model(m.no_grad_backbone, "gradient-flow"),
    _model(m.through_numpy, "gradient-flow"),
    _model(m.rebuilt_tensor, "gradient-flow"),
    _model(m.step_activation, "gradient-flow"),
    _model(m.rounded_features, "gradient-flow"),
    _model(m.unused_branch, "gradient-flow", "trainable-parameters", legal=True),
    _model(m.branch_result_dropped, "gradient-flow", "trainable-parameters", legal=True),
    _model(m.zeroed_input, "input-used", fast=True),
    _model(m.mean_input, "input-used"),
    _model(m.clamped_input, "input-used"),
    _model(m.one_channel, "input-used", legal=True, others=HUES),
    _model(m.corner_only, "input-used", legal=True),
    _model(m.strided_past, "input-used", legal=True),
)

MODES = (
    _model(m.batch_last_view, "batch-independence", fast=True),
    _model(m.transposed_reshape, "batch-independence"),
    _model(m.softmax_over_batch, "batch-independence"),
    _model(m.batch_mean_by_hand, "batch-independence"),
    _model(m.standardised_by_batch, "batch-independence"),
    _model(m.normalised_over_batch, "batch-independence"),
    _model(m.attention_over_batch, "batch-independence"),
    _model(m.rnn_over_batch, "batch-independence"),
    _model(m.batch_norm_always_training, "batch-independence", "train-eval", legal=True),
    _model(m.dropout_always_on, "train-eval", fast=True),
    _model(m.noise_always_on, "train-eval"),
    _model(m.eval_in_forward, "train-eval"),
    _model(m.train_in_forward, "train-eval", "batch-independence"),
    _model(m.batch_norm_momentum_zero, "train-eval"),
    _model(m.dropout_of_99_percent, "train-eval", "activations", legal=True),
    _model(m.dropout_on_logits, "train-eval", "outputs", legal=True),
    _model(m.state_between_calls, "train-eval", "batch-independence"),
    _model(m.norm_of_one_value, "activations", "outputs", "input-used", "gradient-flow"),
)

INITIALISATION = (
    _model(m.zero_weights, "activations", "gradient-flow", fast=True),
    _model(m.zero_weights_with_norms, "activations", "gradient-flow"),
    _model(m.constant_weights, "activations", "gradient-flow"),
    _model(m.unit_normal_weights, "activations", "initial-loss"),
    _model(m.unit_normal_convolutions, "activations", "initial-loss", legal=True),
    _model(m.small_random_weights, "activations", "gradient-flow"),
    _model(m.small_random_convolutions, "activations", "gradient-flow"),
    _model(m.saturated_tanh, "activations", fast=True),
    _model(m.wide_tanh, "activations", legal=True),
    _model(m.ten_sigmoids, "activations", "gradient-flow"),
    _model(m.dead_relus, "activations", "gradient-flow"),
    _model(m.dead_layer, "activations", "gradient-flow"),
    _model(m.deep_plain_defaults, "activations", "gradient-flow"),
)

LOSSES = (
    _loss(s.summed, fast=True),
    _loss(s.negated),
    _loss(s.ignores_targets),
    _loss(s.entropy_alone),
    _loss(s.overwritten_targets),
    _loss(s.nll_on_logits),
    _loss(s.double_softmax),
    _loss(s.sigmoid_first),
    _loss(s.rolled_targets),
    _loss(s.sorted_targets),
    _loss(s.shifted_targets),
    _loss(s.detached),
    _loss(s.constant),
    _loss(s.one_minus_accuracy),
    _loss(s.squared_error_of_class_numbers),
    _loss(s.squared_error_of_class_numbers_in_all_logits),
    _loss(s.wrong_axis),
    _loss(s.times_1000, legal=True),
    _loss(s.divided_twice, legal=True),
    _loss(s.half_the_classes),
    _loss(s.first_image_only),
    _loss(s.log_of_zero),
    _loss(s.ignores_most),
)

RAW = ("data.normalize=false", f"model.name={import_name(plain)}")  # no norm mends the scale
IMAGES = (
    _data(d.shuffled_labels, "learns", "labels", fast=True),
    _data(d.labels_of_the_next_image, "learns", "labels"),
    _data(d.labels_by_index, "learns", "labels"),
    _data(d.most_labels_random, "learns", "labels", legal=True),
    _data(d.train_of_one_class, "labels"),
    _data(d.labels_from_one, "labels", legal=True),
    _data(d.labels_out_of_range, "labels", RAISED),
    _data(d.contradicting_labels, "labels"),
    _data(d.blank_images, "inputs"),
    _data(d.same_image, "inputs"),
    _data(d.mostly_blank_images, "inputs", legal=True),
    _data(d.nan_pixels, "inputs", fast=True),
    _data(d.one_infinite_pixel, "inputs"),
    _data(d.outlier_pixels, "inputs", legal=True),
    _data(d.bytes_as_floats, "inputs", others=RAW, legal=True),
    _data(d.scaled_twice, "inputs", others=RAW, legal=True),
    _data(d.constant_channel, "inputs", legal=True),
    _data(d.rows_as_channels, "inputs", legal=True),
    _data(d.viewed_not_permuted, "inputs", legal=True),
)

SPLIT = (
    _data(d.shuffled_val_pixels, "split"),
    _data(d.val_in_bytes, "split"),
    _data(d.val_standardised_alone, "split"),
    _data(d.val_inverted, "split"),
    _data(d.val_channels_swapped, "split"),
    _data(d.val_upside_down, "split"),
    _data(d.val_overlaps_train, "split"),
    _data(d.val_is_train, "split", fast=True),
    _data(d.noisy_twins, "split", legal=True),
    _data(d.flipped_twins, "split", legal=True),
    _data(d.brighter_twins, "split", legal=True),
    _data(d.class_missing_in_train, "split", "labels"),
    _data(d.sorted_split, "split", "labels"),
    _data(d.val_classes_permuted, "split"),
    _data(d.val_classes_shifted, "split"),
    _data(d.val_classes_swapped, "split"),
    _data(d.val_labels_shuffled, "split", "learns"),
    _data(d.val_of_one_class, "split", "labels"),
    _data(d.val_labels_forgotten, "split", "labels"),
    _data(d.empty_val, "split", RAISED),
)

SETTINGS = (
    _settings("lr-1000", "train.lr=1e3", rules=TRAINED),
    _settings("lr-1e-9", "train.lr=1e-9", rules=TRAINED),
    _settings("adam-lr-1", "train.optimizer='adam'", "train.lr=3.0", rules=TRAINED),
    _settings("weight-decay-10", "train.weight_decay=10.0", rules=("optimizer", "learns")),
    _settings("momentum-0.9999", "train.momentum=0.9999", rules=TRAINED, legal=True),
    _settings(
        "label-smoothing-0.99", "train.label_smoothing=0.99", rules=("optimizer", "learns", "loss")
    ),
    _settings("clip-1e-6", "train.grad_clip=1e-6", rules=TRAINED),
    _settings(
        "batch-1-with-norm", "train.batch_size=1", rules=("optimizer", "train-eval"), legal=True
    ),
)

KINDS: dict[str, tuple[Case, ...]] = {
    "outputs": OUTPUTS,
    "wiring": WIRING,
    "batch and mode": MODES,
    "initialisation": INITIALISATION,
    "loss": LOSSES,
    "images, labels": IMAGES,
    "split": SPLIT,
    "settings": SETTINGS,
    "written later": LATER_BUGS,
    "posted about": POSTED_BUGS,
    "by a tester": TESTER_BUGS,
}
BUGS = tuple(case for cases in KINDS.values() for case in cases)
