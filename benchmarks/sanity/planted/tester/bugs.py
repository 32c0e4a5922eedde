"""The set-ups with one bug each that a tester would plant, and the rules that name them."""

from planted.parts import (
    RAISED,
    data_case,
    import_name,
    loss_case,
    model_case,
    plain,
    settings_case,
)
from planted.tester import data, losses, models

m, d, s = models, data, losses
PLAIN = f"model.name={import_name(plain)}"
RAW = ("data.normalize=false", PLAIN)
TRAINED = "optimizer overfit-tiny learns"  # where nothing but the rate of learning is wrong


BUGS = (
    model_case(m.skip_detached, "gradient-flow", legal=True),
    model_case(m.norm_after_logits, "outputs train-eval batch-independence", legal=True),
    model_case(m.dead_branch, "activations gradient-flow"),
    model_case(m.pixel_for_pooling, "input-used", legal=True),
    model_case(m.one_place_left, "input-used activations", legal=True),
    model_case(m.zero_weight_norm, "activations gradient-flow input-used"),
    model_case(m.layer_norm_with_the_batch, "batch-independence"),
    model_case(m.attention_softmax_over_images, "batch-independence"),
    model_case(m.features_shuffled_each_call, "train-eval"),
    model_case(m.outputs_permuted_each_call, "train-eval"),
    model_case(m.never_in_eval_mode, "train-eval batch-independence"),
    model_case(m.gelu_output, "outputs"),
    model_case(m.normalised_output, "outputs"),
    model_case(m.weights_in_buffers, "trainable-parameters", legal=True),
    model_case(
        m.weights_zeroed_each_call, "trainable-parameters activations gradient-flow train-eval"
    ),
    model_case(m.deviation_of_ten_in_one_layer, "activations initial-loss outputs"),
    model_case(m.hidden_biases_of_100, "activations initial-loss outputs"),
    model_case(m.one_stage_frozen, "trainable-parameters", legal=True),
    model_case(m.relu_of_negated_relu, "activations gradient-flow input-used"),
    model_case(m.bytes_into_tanh, "activations"),
    model_case(m.attention_masked_out, "outputs activations"),
    model_case(m.softmax_over_one, "gradient-flow trainable-parameters"),
    model_case(m.divides_by_255_inside, "activations inputs input-used", legal=True),
    model_case(m.channel_mean_subtracted, "input-used activations"),
    loss_case(s.mean_of_logits_over_images),
    loss_case(s.weighted_by_place, legal=True),
    loss_case(s.targets_reversed),
    loss_case(s.temperature_of_a_thousandth, "loss initial-loss outputs", legal=True),
    loss_case(s.epsilon_of_one, "loss initial-loss"),
    loss_case(s.easiest_images),
    loss_case(s.penalty_with_wrong_sign),
    loss_case(s.clamped_probabilities),
    data_case(d.normalised_by_variance, "inputs", *RAW, legal=True),
    data_case(d.deviation_of_zero, "inputs", *RAW),
    data_case(d.wrapped_bytes, "inputs split learns", legal=True),
    data_case(d.val_brightened, "split", legal=True),
    data_case(d.train_pixels_scattered, "inputs split learns"),
    data_case(d.labels_of_the_next_batch, "labels learns split"),
    data_case(d.labels_doubled, "labels", legal=True),
    data_case(d.val_letterboxed, "split"),
    data_case(d.blended_with_another, "labels learns split", legal=True),
    data_case(d.one_image_of_each_class, "inputs labels split"),
    settings_case("adamw-lr-1e-7", TRAINED, "train.optimizer=adamw", "train.lr=1e-7"),
    settings_case("plain-lr-10", TRAINED, PLAIN, "train.lr=10.0"),
    settings_case("momentum-0.999", TRAINED, "train.momentum=0.999", legal=True),
    settings_case("weight-decay-1", TRAINED, "train.weight_decay=1.0"),
    settings_case(
        "adam-decay-1",
        TRAINED,
        "train.optimizer=adam",
        "train.lr=1e-3",
        "train.weight_decay=1.0",
    ),
    settings_case("crop-8-of-8", f"inputs learns {RAISED}", "augment.crop=8", legal=True),
)
