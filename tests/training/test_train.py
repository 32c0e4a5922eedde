"""The training loop: repeatable, honest about what it measures, and quick to give up on NaN."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnntune.config.recipe import Recipe, TrainSection, parse
from cnntune.data import Data
from cnntune.errors import UserCodeError
from cnntune.runs.run import Epoch
from cnntune.training.build import build_model, load_data
from cnntune.training.evaluate import evaluate
from cnntune.training.loop import Learner, build_optimizer, clean_indices, steps_per_epoch, train

CPU = torch.device("cpu")
DIGITS = parse(
    {
        "name": "small",
        "data": {"size": 200, "val_fraction": 0.4, "test_fraction": 0},
        "model": {"width": 8, "depth": 2},
        "train": {"batch_size": 30, "epochs": 2, "threads": 1, "precision": "float32"},
        "search": {"epochs": 2},
    },
    file="small",
)
NOISY = DIGITS.with_values({"model.dropout": 0.5, "augment.flip": True, "augment.crop": 1})


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data(DIGITS, CPU)  # 120 images to train on, 80 to validate


@pytest.fixture
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])


def rows(recipe: Recipe, data: Data, model: nn.Module | None = None) -> list[Epoch]:
    return list(train(recipe, data, CPU, model=model))


def numbers(recipe: Recipe, data: Data) -> list[tuple[float, ...]]:
    """Everything in the rows but the seconds."""
    return [
        (row.epoch, row.lr, row.train_loss, row.train_acc, row.val_loss, row.val_acc, row.grad_norm)
        for row in rows(recipe, data)
    ]


# Repeatable


def test_on_the_cpu_a_run_is_repeated_bit_for_bit(digits: Data) -> None:
    first = numbers(NOISY, digits)
    torch.rand(10)  # whatever the caller draws in between
    assert numbers(NOISY, digits) == first


def test_a_run_does_not_depend_on_the_callers_random_state(digits: Data) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = numbers(NOISY, digits)
        torch.manual_seed(2)
        assert numbers(NOISY, digits) == first


def test_the_callers_random_state_is_not_touched(digits: Data) -> None:
    before = torch.get_rng_state()
    rows(NOISY, digits)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_callers_random_state_is_not_touched_between_epochs_either(digits: Data) -> None:
    before = torch.get_rng_state()
    for _ in train(NOISY, digits, CPU):
        assert torch.equal(torch.get_rng_state(), before)


def test_the_callers_random_state_is_not_touched_by_streaming() -> None:
    streamed = load_data(DIGITS.with_values({"data.stream": True}), CPU)
    before = torch.get_rng_state()
    rows(DIGITS.with_values({"train.epochs": 1}), streamed)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("_own_folder")
def test_a_data_set_that_augments_itself_is_repeated_bit_for_bit_too() -> None:
    Path("augments_itself.py").write_text(
        "import torch\n"
        "class Noisy:\n"
        "    def __len__(self):\n        return 16\n"
        "    def __getitem__(self, i):\n        return torch.rand(1, 8, 8) + i % 2, i % 2\n"
        "def build(*, seed):\n    return Noisy(), Noisy()\n"
    )
    recipe = parse(
        {
            "data": {"name": "augments_itself:build"},
            "model": {"width": 4, "depth": 1},
            "train": {"batch_size": 8, "epochs": 1, "threads": 1, "precision": "float32"},
        },
        file="own",
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = numbers(recipe, load_data(recipe, CPU))
        torch.manual_seed(2)
        assert numbers(recipe, load_data(recipe, CPU)) == first


def test_another_seed_gives_another_run(digits: Data) -> None:
    assert numbers(NOISY, digits) != numbers(NOISY.with_values({"seed": 1}), digits)


def test_dropout_and_augmentation_do_change_the_run(digits: Data) -> None:
    plain = numbers(DIGITS, digits)
    assert numbers(DIGITS.with_values({"model.dropout": 0.5}), digits) != plain
    assert numbers(DIGITS.with_values({"augment.crop": 1}), digits) != plain


def test_epochs_see_the_images_in_different_orders(digits: Data) -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(x.detach().clone())
            logits: Tensor = self.linear(x.flatten(1))
            return logits

    rows(DIGITS, digits, Spy())
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert first.shape == second.shape == (120, 1, 8, 8)
    assert not torch.equal(first, second)
    # Each epoch shows every image once: sorted, the two are the same pixels.
    assert torch.equal(first.flatten().sort().values, second.flatten().sort().values)


# One step


class OneLayer(nn.Module):
    """A linear layer on two pixels, with weights that are easily multiplied in the head."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
            self.linear.bias.copy_(torch.tensor([0.5, 0.5]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def learner(model: nn.Module, **values: object) -> Learner:
    settings = {f"train.{key}": value for key, value in values.items()}
    recipe = DIGITS.with_values(settings)  # type: ignore[arg-type]
    return Learner.of(recipe, model, CPU)


def one_image() -> tuple[Tensor, Tensor]:
    return torch.tensor([[[[1.0, 1.0]]]]), torch.tensor([0])


def test_one_step_of_sgd_is_hand_arithmetic() -> None:
    # Both logits are 1.5, so p = (0.5, 0.5), the loss is ln 2, and the gradient of the logits is
    # p - (1, 0) = (-0.5, 0.5). With pixels (1, 1) each weight of row k and the bias has that
    # gradient: six numbers of size 0.5 wherever the row is, norm sqrt(6 * 0.25).
    # Weights also decay by 0.2 w; biases do not. The rate is 0.1.
    model = OneLayer()
    loss, norm = learner(model, lr=0.1, momentum=0.0, weight_decay=0.2).step(*one_image())
    assert float(loss) == pytest.approx(math.log(2))
    assert float(norm) == pytest.approx(math.sqrt(1.5))
    expected = torch.tensor([[1 + 0.05 - 0.02, 0.05], [-0.05, 1 - 0.05 - 0.02]])
    torch.testing.assert_close(model.linear.weight.detach(), expected)
    torch.testing.assert_close(model.linear.bias.detach(), torch.tensor([0.55, 0.45]))


def test_momentum_adds_nine_tenths_of_the_last_step() -> None:
    model = OneLayer()
    twice = learner(model, lr=0.1, momentum=0.9, weight_decay=0.0)
    twice.step(*one_image())
    # After one step the logits are 1.65 and 1.35 (weights and bias each moved by 0.05).
    twice.step(*one_image())
    p = 1 / (1 + math.exp(-0.3))
    velocity = 0.9 * 0.5 + (1 - p)
    assert float(model.linear.bias[0].detach()) == pytest.approx(0.55 + 0.1 * velocity)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_is_torchs_adam_without_decay_on_norms_and_biases(name: str, digits: Data) -> None:
    ours, theirs = (build_model(DIGITS, digits) for _ in range(2))
    decayed = [p for p in theirs.parameters() if p.ndim > 1]
    free = [p for p in theirs.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}]
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    optimizer = kind(groups, lr=0.01)
    step = learner(ours, optimizer=name, lr=0.01, weight_decay=0.1).step
    for inputs, labels in digits.train.batches(torch.arange(60), 30):
        step(inputs, labels)
        optimizer.zero_grad()
        F.cross_entropy(theirs(inputs), labels).backward()
        optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_norms_and_biases_are_not_decayed(digits: Data) -> None:
    model = build_model(DIGITS, digits)
    optimizer = build_optimizer(model, TrainSection(weight_decay=0.5))
    decay = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    for name, p in model.named_parameters():
        one_dimensional = name.endswith("bias") or ".norm." in name
        assert decay[id(p)] == (0.0 if one_dimensional else 0.5), name


def test_a_frozen_weight_stays(digits: Data) -> None:
    model = OneLayer()
    model.linear.bias.requires_grad = False
    learner(model, lr=0.1).step(*one_image())
    assert model.linear.bias.tolist() == [0.5, 0.5]
    assert model.linear.weight[0, 1] != 0


def test_clipping_bounds_the_step_and_reports_the_norm_before_it() -> None:
    model = OneLayer()
    before = [p.detach().clone() for p in model.parameters()]
    _, norm = learner(model, lr=1.0, momentum=0.0, weight_decay=0.0, grad_clip=0.25).step(
        *one_image()
    )
    moved = torch.cat(
        [(p.detach() - b).flatten() for p, b in zip(model.parameters(), before, strict=True)]
    )
    assert float(norm) == pytest.approx(math.sqrt(1.5))
    assert float(moved.norm()) == pytest.approx(0.25, rel=1e-4)


def test_clipping_leaves_a_small_gradient_alone() -> None:
    clipped, free = OneLayer(), OneLayer()
    learner(clipped, lr=0.1, grad_clip=10.0).step(*one_image())
    learner(free, lr=0.1).step(*one_image())
    torch.testing.assert_close(clipped.linear.weight, free.linear.weight)


def test_label_smoothing_reaches_the_loss() -> None:
    # Equal logits: -0.9 ln 0.5 - 0.1 ln 0.5 is ln 2 again, so make them differ: bias 1 apart.
    model = OneLayer()
    with torch.no_grad():
        model.linear.bias.copy_(torch.tensor([1.5, 0.5]))
    loss, _ = learner(model, label_smoothing=0.2).step(*one_image())
    p = 1 / (1 + math.exp(-1))
    assert float(loss) == pytest.approx(-0.9 * math.log(p) - 0.1 * math.log(1 - p))


# The rate


def test_epochs_report_the_rate_of_their_last_step(digits: Data) -> None:
    # 120 images in batches of 30: 4 steps an epoch, 8 in all. Cosine at steps 3 and 7 of 8.
    recipe = DIGITS.with_values({"train.schedule": "cosine", "train.lr": 0.1})
    expected = [0.05 * (1 + math.cos(math.pi * step / 8)) for step in (3, 7)]
    assert [row.lr for row in rows(recipe, digits)] == pytest.approx(expected)


def test_warm_up_reaches_the_full_rate_at_the_end_of_its_epoch(digits: Data) -> None:
    recipe = DIGITS.with_values({"train.warmup_epochs": 1.0, "train.lr": 0.1})
    assert [row.lr for row in rows(recipe, digits)] == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(("images", "batch", "steps"), [(120, 30, 4), (119, 30, 3), (10, 30, 1)])
def test_only_full_batches_count_unless_there_is_no_full_one(
    images: int, batch: int, steps: int
) -> None:
    assert steps_per_epoch(images, batch) == steps


# What is measured


def test_train_numbers_are_those_of_the_clean_subset_in_eval_mode(digits: Data) -> None:
    model = build_model(NOISY, digits)
    *_, row = train(NOISY, digits, CPU, model=model)
    model.eval()
    indices = clean_indices(len(digits.train), NOISY.data.seed)
    with torch.no_grad():
        ((inputs, labels),) = digits.train.batches(indices, 1000)
        logits = model(inputs).double()
        chosen = logits.log_softmax(1)[torch.arange(len(labels)), labels]
        val_inputs, val_labels = next(digits.val.batches(torch.arange(80), 80))
        val_right = (model(val_inputs).argmax(1) == val_labels).double().mean()
    assert row.train_loss == pytest.approx(-float(chosen.mean()), rel=1e-5)
    assert row.train_acc == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    assert row.val_acc == pytest.approx(float(val_right))


def test_the_clean_subset_is_at_most_a_thousand_different_images_and_always_the_same() -> None:
    chosen = clean_indices(5000, seed=0)
    assert len(chosen.unique()) == 1000
    assert torch.equal(chosen, clean_indices(5000, seed=0))
    assert sorted(clean_indices(7, seed=0).tolist()) == list(range(7))


def test_a_uniform_guess_scores_log_c(digits: Data) -> None:
    class Uniform(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 10)

    score = evaluate(Uniform(), digits.val)
    zeros = float((digits.val.labels == 0).double().mean())  # argmax of equal logits is class 0
    assert score.loss == pytest.approx(math.log(10))
    assert score.acc == pytest.approx(zeros)


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_leaves_the_mode_as_it_was(digits: Data, training: bool) -> None:
    model = build_model(NOISY, digits).train(training)
    evaluate(model, digits.val)
    assert all(module.training == training for module in model.modules())


def test_evaluating_leaves_the_weights_and_statistics_as_they_were(digits: Data) -> None:
    model = build_model(NOISY, digits).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    evaluate(model, digits.val)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_evaluating_gives_the_same_in_many_batches_as_in_one(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(DIGITS, digits)
    whole = evaluate(model, digits.val)
    monkeypatch.setattr("cnntune.training.evaluate.MAX_BATCH", 7)
    parts = evaluate(model, digits.val)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.acc == whole.acc


# Trouble


@pytest.mark.usefixtures("_own_folder")
@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_loss_that_is_no_number_ends_the_run_with_one_row_that_says_so(
    digits: Data, bad: str
) -> None:
    Path(f"loss_{bad}.py").write_text(
        f"def loss(logits, targets):\n    return logits.sum() * float('{bad}')\n"
    )
    (row,) = rows(DIGITS.with_values({"train.loss": f"loss_{bad}:loss"}), digits)
    assert row.diverged
    assert row.epoch == 1
    measured = (row.train_loss, row.train_acc, row.val_loss, row.val_acc, row.grad_norm)
    assert all(math.isnan(value) for value in measured)


def test_a_rate_that_explodes_ends_the_run(digits: Data) -> None:
    recipe = DIGITS.with_values({"train.lr": 1e12, "model.norm": "none", "train.epochs": 5})
    run = rows(recipe, digits)
    assert len(run) < 5
    assert run[-1].diverged
    assert not any(row.diverged for row in run[:-1])


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), r"\(got \(2, 9\)\)"),
        (nn.Conv2d(1, 10, 3), r"\(got \(2, 10, 6, 6\)\)"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(128, 10)), r"\(got \(10,\)\)"),
    ],
)
def test_logits_of_the_wrong_shape_are_the_users_error(
    digits: Data, model: nn.Module, found: str
) -> None:
    with pytest.raises(
        UserCodeError, match=r"model small-cnn: must give logits of shape \(2, 10\).*" + found
    ):
        rows(DIGITS, digits, model)


def test_a_model_that_gives_no_tensor_is_the_users_error(digits: Data) -> None:
    class Pair(OneLayer):
        def forward(self, x: Tensor) -> Tensor:
            return (x, x)  # type: ignore[return-value]

    with pytest.raises(UserCodeError, match=r"\(got tuple\)"):
        rows(DIGITS, digits, Pair())


def test_nothing_to_train_is_the_users_error(digits: Data) -> None:
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)
    for model in (nn.Flatten(), frozen):
        with pytest.raises(UserCodeError, match="model: has no trainable parameters"):
            rows(DIGITS, digits, model)


# Learning


def test_bfloat16_trains_on_the_cpu_and_keeps_float32_weights(digits: Data) -> None:
    recipe = DIGITS.with_values({"train.precision": "bfloat16", "train.epochs": 1})
    model = build_model(recipe, digits)
    (row,) = rows(recipe, digits, model)
    assert not row.diverged
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    exact = rows(DIGITS.with_values({"train.epochs": 1}), digits)[0]
    assert row.train_loss != exact.train_loss  # it did compute in something else
    assert row.train_loss == pytest.approx(exact.train_loss, rel=0.05)


def test_a_short_run_on_60_digits_overfits() -> None:
    recipe = DIGITS.with_values(
        {
            "data.size": 80,
            "data.val_fraction": 0.2,
            "model.width": 16,
            "train.batch_size": 15,
            "train.epochs": 30,
            "train.optimizer": "adam",
            "train.lr": 1e-2,
            "train.weight_decay": 0.0,
        }
    )
    data = load_data(recipe, CPU)
    assert len(data.train) == 60  # 6 of each
    run = rows(recipe, data)
    assert run[-1].train_acc == 1.0
    assert run[-1].train_loss < 0.1
    assert run[-1].val_loss > run[-1].train_loss
    assert [row.epoch for row in run] == list(range(1, 31))


def test_a_model_that_is_given_is_trained_in_place(digits: Data) -> None:
    model = build_model(DIGITS, digits)
    before = [p.detach().clone() for p in model.parameters()]
    rows(DIGITS, digits, model)
    changed = (not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert all(changed)
