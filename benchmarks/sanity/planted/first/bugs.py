"""The set-ups with one bug each, and the rules that name it."""

from planted.first import data, losses, models
from planted.parts import (
    RAISED,
    Case,
    data_case,
    import_name,
    loss_case,
    model_case,
    plain,
    settings_case,
    sound_hues,
)

HUES = (f"data.name={import_name(sound_hues)}",)  # three channels, the first of no use
# Where nothing but the rate of learning is wrong, any rule that trains and says so names it.
TRAINED = "optimizer overfit-tiny learns"


m, d, s = models, data, losses

OUTPUTS = (
    model_case(m.softmax_output, "outputs", fast=True),
    model_case(m.softmax_module, "outputs"),
    model_case(m.sigmoid_output, "outputs"),
    model_case(m.tanh_output, "outputs"),
    model_case(m.relu_output, "outputs"),
    model_case(m.clamped_output, "outputs gradient-flow"),
    model_case(m.cosine_without_temperature, "outputs"),
    model_case(m.imagenet_head, f"outputs {RAISED}"),
    model_case(m.one_output_short, f"outputs {RAISED}"),
    model_case(m.spatial_output, f"outputs {RAISED}"),
    model_case(m.log_of_inputs, "outputs activations initial-loss"),
    model_case(m.hot_logits, "outputs initial-loss", legal=True),
    model_case(m.low_temperature, "outputs initial-loss", legal=True),
    model_case(m.argmax_output, "outputs gradient-flow"),
    model_case(m.detached_output, "outputs gradient-flow"),
    model_case(m.constant_output, "outputs input-used gradient-flow"),
    model_case(m.biased_head, "outputs initial-loss", legal=True),
)

WIRING = (
    model_case(m.frozen_backbone, "trainable-parameters", legal=True),
    model_case(m.frozen_head, "trainable-parameters", legal=True),
    model_case(m.everything_frozen, f"trainable-parameters {RAISED}"),
    model_case(m.layers_in_a_list, "trainable-parameters", fast=True),
    model_case(m.layers_in_a_dict, "trainable-parameters"),
    model_case(m.weights_without_parameter, "trainable-parameters"),
    model_case(m.detach_in_the_middle, "gradient-flow", fast=True),
    model_case(m.data_in_the_middle, "gradient-flow"),
    model_case(m.no_grad_backbone, "gradient-flow"),
    model_case(m.through_numpy, "gradient-flow"),
    model_case(m.rebuilt_tensor, "gradient-flow"),
    model_case(m.step_activation, "gradient-flow"),
    model_case(m.rounded_features, "gradient-flow"),
    model_case(m.unused_branch, "gradient-flow trainable-parameters", legal=True),
    model_case(m.branch_result_dropped, "gradient-flow trainable-parameters", legal=True),
    model_case(m.zeroed_input, "input-used", fast=True),
    model_case(m.mean_input, "input-used"),
    model_case(m.clamped_input, "input-used"),
    model_case(m.one_channel, "input-used", *HUES, legal=True),
    model_case(m.corner_only, "input-used", legal=True),
    model_case(m.strided_past, "input-used", legal=True),
)

MODES = (
    model_case(m.batch_last_view, "batch-independence", fast=True),
    model_case(m.transposed_reshape, "batch-independence"),
    model_case(m.softmax_over_batch, "batch-independence"),
    model_case(m.batch_mean_by_hand, "batch-independence"),
    model_case(m.standardised_by_batch, "batch-independence"),
    model_case(m.normalised_over_batch, "batch-independence"),
    model_case(m.attention_over_batch, "batch-independence"),
    model_case(m.rnn_over_batch, "batch-independence"),
    model_case(m.batch_norm_always_training, "batch-independence train-eval", legal=True),
    model_case(m.dropout_always_on, "train-eval", fast=True),
    model_case(m.noise_always_on, "train-eval"),
    model_case(m.eval_in_forward, "train-eval"),
    model_case(m.train_in_forward, "train-eval batch-independence"),
    model_case(m.batch_norm_momentum_zero, "train-eval"),
    model_case(m.dropout_of_99_percent, "train-eval activations", legal=True),
    model_case(m.dropout_on_logits, "train-eval outputs", legal=True),
    model_case(m.state_between_calls, "train-eval batch-independence"),
    model_case(m.norm_of_one_value, "activations outputs input-used gradient-flow"),
)

INITIALISATION = (
    model_case(m.zero_weights, "activations gradient-flow", fast=True),
    model_case(m.zero_weights_with_norms, "activations gradient-flow"),
    model_case(m.constant_weights, "activations gradient-flow"),
    model_case(m.unit_normal_weights, "activations initial-loss"),
    model_case(m.unit_normal_convolutions, "activations initial-loss", legal=True),
    model_case(m.small_random_weights, "activations gradient-flow"),
    model_case(m.small_random_convolutions, "activations gradient-flow"),
    model_case(m.saturated_tanh, "activations", fast=True),
    model_case(m.wide_tanh, "activations", legal=True),
    model_case(m.ten_sigmoids, "activations gradient-flow"),
    model_case(m.dead_relus, "activations gradient-flow"),
    model_case(m.dead_layer, "activations gradient-flow"),
    model_case(m.deep_plain_defaults, "activations gradient-flow"),
)

LOSSES = (
    loss_case(s.summed, fast=True),
    loss_case(s.negated),
    loss_case(s.ignores_targets),
    loss_case(s.entropy_alone),
    loss_case(s.overwritten_targets),
    loss_case(s.nll_on_logits),
    loss_case(s.double_softmax),
    loss_case(s.sigmoid_first),
    loss_case(s.rolled_targets),
    loss_case(s.sorted_targets),
    loss_case(s.shifted_targets),
    loss_case(s.detached),
    loss_case(s.constant),
    loss_case(s.one_minus_accuracy),
    loss_case(s.squared_error_of_class_numbers),
    loss_case(s.squared_error_of_class_numbers_in_all_logits),
    loss_case(s.wrong_axis),
    loss_case(s.times_1000, legal=True),
    loss_case(s.divided_twice, legal=True),
    loss_case(s.half_the_classes),
    loss_case(s.first_image_only),
    loss_case(s.log_of_zero),
    loss_case(s.ignores_most),
)

RAW = ("data.normalize=false", f"model.name={import_name(plain)}")  # no norm mends the scale
IMAGES = (
    data_case(d.shuffled_labels, "learns labels", fast=True),
    data_case(d.labels_of_the_next_image, "learns labels"),
    data_case(d.labels_by_index, "learns labels"),
    data_case(d.most_labels_random, "learns labels", legal=True),
    data_case(d.train_of_one_class, "labels"),
    data_case(d.labels_from_one, "labels", legal=True),
    data_case(d.labels_out_of_range, f"labels {RAISED}"),
    data_case(d.contradicting_labels, "labels"),
    data_case(d.blank_images, "inputs"),
    data_case(d.same_image, "inputs"),
    data_case(d.mostly_blank_images, "inputs", legal=True),
    data_case(d.nan_pixels, "inputs", fast=True),
    data_case(d.one_infinite_pixel, "inputs"),
    data_case(d.outlier_pixels, "inputs", legal=True),
    data_case(d.bytes_as_floats, "inputs", *RAW, legal=True),
    data_case(d.scaled_twice, "inputs", *RAW, legal=True),
    data_case(d.constant_channel, "inputs", legal=True),
    data_case(d.rows_as_channels, "inputs", legal=True),
    data_case(d.viewed_not_permuted, "inputs", legal=True),
)

SPLIT = (
    data_case(d.shuffled_val_pixels, "split"),
    data_case(d.val_in_bytes, "split"),
    data_case(d.val_standardised_alone, "split"),
    data_case(d.val_inverted, "split"),
    data_case(d.val_channels_swapped, "split"),
    data_case(d.val_upside_down, "split"),
    data_case(d.val_overlaps_train, "split"),
    data_case(d.val_is_train, "split", fast=True),
    data_case(d.noisy_twins, "split", legal=True),
    data_case(d.flipped_twins, "split", legal=True),
    data_case(d.brighter_twins, "split", legal=True),
    data_case(d.class_missing_in_train, "split labels"),
    data_case(d.sorted_split, "split labels"),
    data_case(d.val_classes_permuted, "split"),
    data_case(d.val_classes_shifted, "split"),
    data_case(d.val_classes_swapped, "split"),
    data_case(d.val_labels_shuffled, "split learns"),
    data_case(d.val_of_one_class, "split labels"),
    data_case(d.val_labels_forgotten, "split labels"),
    data_case(d.empty_val, f"split {RAISED}"),
)

SETTINGS = (
    settings_case("lr-1000", TRAINED, "train.lr=1e3"),
    settings_case("lr-1e-9", TRAINED, "train.lr=1e-9"),
    settings_case("adam-lr-1", TRAINED, "train.optimizer='adam'", "train.lr=3.0"),
    settings_case("weight-decay-10", "optimizer learns", "train.weight_decay=10.0"),
    settings_case("momentum-0.9999", TRAINED, "train.momentum=0.9999", legal=True),
    settings_case("label-smoothing-0.99", "optimizer learns loss", "train.label_smoothing=0.99"),
    settings_case("clip-1e-6", TRAINED, "train.grad_clip=1e-6"),
    settings_case("batch-1-with-norm", "optimizer train-eval", "train.batch_size=1", legal=True),
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
}
