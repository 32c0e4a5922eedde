"""The set-ups with one bug each that people post about, and the rules that name them."""

from planted.parts import (
    RAISED,
    data_case,
    import_name,
    loss_case,
    model_case,
    plain,
    settings_case,
)
from planted.posted import data, losses, models

m, d, s = models, data, losses
PATTERNS = "data.name=planted.parts:sound_patterns"
RAW = ("data.normalize=false", f"model.name={import_name(plain)}")
TRAINED = "optimizer overfit-tiny learns"  # where nothing but the rate of learning is wrong


BUGS = (
    model_case(m.softplus_output, "outputs"),
    model_case(m.relu6_output, "outputs"),
    model_case(m.log_softmax_over_batch, "batch-independence outputs"),
    model_case(m.dropout_of_95_percent, "train-eval activations", legal=True),
    model_case(m.tensorflow_momentum, "train-eval", legal=True),
    model_case(m.scaled_parameter, "trainable-parameters"),
    model_case(m.transformer_over_batch, "batch-independence"),
    model_case(m.divided_by_batch_maximum, "batch-independence"),
    model_case(m.summed_pooling, "initial-loss outputs activations", PATTERNS, legal=True),
    model_case(m.gate_as_a_number, "gradient-flow trainable-parameters", legal=True),
    model_case(m.place_of_highest_score, "gradient-flow trainable-parameters", legal=True),
    model_case(m.inference_mode_features, f"gradient-flow {RAISED}"),
    model_case(m.only_biases_trained, "trainable-parameters", legal=True),
    model_case(m.zero_gains, "activations gradient-flow input-used"),
    model_case(m.slope_of_one, "activations", legal=True),
    model_case(m.slope_of_ten, "activations initial-loss"),
    model_case(m.head_forgotten, f"outputs {RAISED}"),
    model_case(m.positions_along_batch, "batch-independence train-eval"),
    model_case(m.features_cached, "input-used train-eval batch-independence gradient-flow"),
    model_case(m.random_input, "input-used train-eval"),
    model_case(m.first_image_for_all, "batch-independence input-used"),
    model_case(m.signed_square_root, "gradient-flow"),
    model_case(m.softmax_as_activation, "activations gradient-flow", legal=True),
    model_case(m.logits_divided_by_1000, "outputs gradient-flow initial-loss", legal=True),
    model_case(m.weights_clamped_in_forward, "trainable-parameters activations train-eval"),
    model_case(m.initialised_in_forward, "trainable-parameters train-eval"),
    model_case(m.gain_of_ten, "activations initial-loss"),
    model_case(m.product_for_sum, "activations gradient-flow"),
    loss_case(s.binary_of_softmax),
    loss_case(s.divergence_swapped),
    loss_case(s.weight_of_one_class_zero, legal=True),
    loss_case(s.hinge_with_wrong_sign),
    loss_case(s.nll_of_log_sigmoid),
    loss_case(s.summed_then_divided_by_classes, legal=True),
    loss_case(s.softmax_of_targets, legal=True),
    loss_case(s.clamped_from_above),
    loss_case(s.reshaped_targets),
    loss_case(s.one_hot_of_the_prediction),
    data_case(d.one_channel_off, "inputs", *RAW, legal=True),
    data_case(d.labels_between_0_and_1, f"labels {RAISED}"),
    data_case(d.argmax_along_images, "labels learns split"),
    data_case(d.val_blurred, "split", legal=True),
    data_case(d.val_from_augmented, "split", legal=True),
    data_case(d.folders_in_another_order, "split"),
    data_case(d.label_in_a_pixel, "inputs labels input-used", legal=True),
    data_case(d.label_in_a_training_patch, "inputs labels split", legal=True),
    data_case(d.placeholder_images, "inputs labels", legal=True),
    data_case(d.sixteen_bits_clipped, "inputs", legal=True),
    data_case(d.image_drawn_on_access, "inputs labels learns"),
    data_case(d.oversampled_before_split, "split"),
    data_case(d.classes_missing_in_val, "split labels", legal=True),
    data_case(d.three_val_images, "split", legal=True),
    data_case(d.cropped_to_a_corner, "inputs labels learns", legal=True),
    data_case(d.labels_of_half_lost, "labels split learns", legal=True),
    data_case(d.train_without_noise_val_with, "split", legal=True),
    settings_case("lr-100", TRAINED, "train.lr=100.0"),
    settings_case("lr-1e-6", TRAINED, "train.lr=1e-6"),
    settings_case(
        "adamw-decay-100",
        TRAINED,
        "train.optimizer=adamw",
        "train.lr=1e-2",
        "train.weight_decay=100.0",
    ),
    settings_case(
        "label-smoothing-0.9", f"{TRAINED} loss", "train.label_smoothing=0.9", legal=True
    ),
    settings_case("cutout-of-all", "inputs learns", "augment.cutout=16", legal=True),
    settings_case(
        "brightness-100", "inputs learns", PATTERNS, "augment.brightness=100.0", legal=True
    ),
    settings_case("warmup-too-long", f"{TRAINED} {RAISED}", "train.warmup_epochs=20.0"),
)
