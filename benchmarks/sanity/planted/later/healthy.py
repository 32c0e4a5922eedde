"""Sound set-ups, written after the rules were: unusual, legal, and none may be warned about."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset, TensorDataset

from planted.parts import (
    Case,
    Pair,
    Shape,
    Small,
    cut,
    digits,
    import_name,
    mlp,
    name_of,
    pair,
    patterns,
    plain_cnn,
    sound_patterns,
)


def frozen_norms(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Batch norms kept in eval mode on purpose, as in detection."""

    class Net(Small):
        def train(self, mode: bool = True) -> "Net":
            super().train(mode)
            self.bn1.eval()
            self.bn2.eval()
            return self

    return Net(num_classes, in_shape)


def head_without_bias(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A head without a bias."""
    net = Small(num_classes, in_shape)
    net.head = nn.Linear(64, num_classes, bias=False)
    return net


def one_relu_shared(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """One ReLU module, in place, used everywhere."""
    relu = nn.ReLU(inplace=True)
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 16, 3, padding=1),
        relu,
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 32, 1),
        relu,
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


def double_precision(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A head in float64."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).double()

    return Net(num_classes, in_shape)


def zero_gates(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Eight residual branches times a scalar that starts at 0 (ReZero, Bachlechner 2020)."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1)
            self.gate = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.gate * F.relu(self.conv(x))

    return nn.Sequential(
        nn.Conv2d(in_shape[0], 16, 3, padding=1),
        *[Block() for _ in range(8)],
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


def tiny_layer_scale(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Residual branches times 1e-6 (ConvNeXt's layer scale)."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(
                nn.Conv2d(32, 32, 3, padding=1, groups=32),
                nn.GroupNorm(1, 32),
                nn.Conv2d(32, 64, 1),
                nn.GELU(),
                nn.Conv2d(64, 32, 1),
            )
            self.scale = nn.Parameter(torch.full((32, 1, 1), 1e-6))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = x + self.scale * self.branch(x)
            return out

    return nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 2, stride=2),
        *[Block() for _ in range(4)],
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


def weight_norm(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Weights split into length and direction (Salimans and Kingma 2016)."""
    net = plain_cnn(num_classes, in_shape)
    for module in list(net.modules()):
        if isinstance(module, nn.Conv2d):
            parametrizations.weight_norm(module)
    return net


def instance_norm(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Instance norms with PReLU."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 16, 3, padding=1),
        nn.InstanceNorm2d(16, affine=True),
        nn.PReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.InstanceNorm2d(32, affine=True),
        nn.PReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


def maxout(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The largest of two linear maps as activation (Goodfellow et al. 2013)."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.fc = nn.Linear(128, 128)

        def features(self, x: Tensor) -> Tensor:
            hidden: Tensor = self.fc(self.maps(x).flatten(1))
            return hidden.view(len(x), 64, 2).amax(2)

    return Net()


def gru_over_rows(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A GRU over the rows, in both directions."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = in_shape[0] * in_shape[2]
            self.gru = nn.GRU(size, 48, batch_first=True, bidirectional=True)
            self.head = nn.Linear(96, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            rows, _ = self.gru(x.transpose(1, 2).flatten(2))
            logits: Tensor = self.head(rows.mean(1))
            return logits

    return Net()


def prior_bias(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A head whose bias starts at the log of the class shares, 19 to 1."""
    net = Small(num_classes, in_shape)
    shares = torch.tensor([0.87, *[0.13 / (num_classes - 1)] * (num_classes - 1)])
    with torch.no_grad():
        net.head.bias.copy_(shares.log())
    return net


def fixed_scale_and_dropout_block(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Whole maps dropped at random, and a fixed factor on the logits."""

    class Net(Small):
        def maps(self, x: Tensor) -> Tensor:
            return F.dropout2d(super().maps(x), 0.3, self.training)

        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    return Net(num_classes, in_shape)


def sixteen_default_layers(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Sixteen layers of SELU with LeCun weights (Klambauer et al. 2017)."""
    net = mlp(num_classes, in_shape, hidden=16, activation=nn.SELU)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
            nn.init.zeros_(module.bias)
    return net


def straight_through(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features of one bit, the gradient passed straight through (Bengio et al. 2013)."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            features = torch.tanh(super().features(x) - 0.5)
            return features + (features.sign() - features).detach()

    return Net(num_classes, in_shape)


def small_weights_with_norms(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Convolutions that start at a thousandth: batch norms put it right."""
    net = Small(num_classes, in_shape)
    for conv in (net.conv1, net.conv2):
        nn.init.normal_(conv.weight, std=1e-3)
    return net


def with_coordinates(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Two channels more, with the place of each pixel (CoordConv, Liu et al. 2018)."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            rows, columns = (torch.linspace(-1, 1, n, device=x.device) for n in x.shape[2:])
            places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
            return super().forward(torch.cat([x, places.expand(len(x), -1, -1, -1)], dim=1))

    return Net(num_classes, (in_shape[0] + 2, *in_shape[1:]))


def recomputed(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Maps computed again in the backward pass, to save memory."""

    class Net(Small):
        def maps(self, x: Tensor) -> Tensor:
            maps: Tensor = checkpoint(super().maps, x, use_reentrant=False)
            return maps

    return Net(num_classes, in_shape)


def blurred(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A fixed blur before the stride, squared ReLUs, two branches side by side."""

    class Net(nn.Module):
        blur: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("blur", torch.ones(16, 1, 3, 3) / 9)
            self.left = nn.Conv2d(in_shape[0], 8, 3, padding=1)
            self.right = nn.Conv2d(in_shape[0], 8, 1)
            self.head = nn.Linear(64, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(torch.cat([self.left(x), self.right(x)], dim=1)).square()
            x = F.conv2d(x, self.blur, stride=2, padding=1, groups=16)
            logits: Tensor = self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))
            return logits

    return Net()


def attention_pooling(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Pixels weighed by a softmax over places."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.score = nn.Conv2d(32, 4, 1)

        def maps(self, x: Tensor) -> Tensor:
            x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
            weights = self.score(x).flatten(2).softmax(2)  # [N, 4, places]
            looked: Tensor = (weights @ x.flatten(2).transpose(1, 2)).transpose(1, 2)
            return torch.unflatten(looked, 2, (2, 2))

    return Net()


def hinge(logits: Tensor, targets: Tensor) -> Tensor:
    """The multiclass SVM loss of the lecture."""
    return F.multi_margin_loss(logits, targets)


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared difference from one-hot targets (Hui and Belkin 2021)."""
    return F.mse_loss(logits, F.one_hot(targets, logits.shape[1]).to(logits.dtype))


def log_softmax_twice(logits: Tensor, targets: Tensor) -> Tensor:
    """A log_softmax too many, which changes nothing."""
    return F.cross_entropy(F.log_softmax(logits, dim=1), targets)


def with_logit_penalty(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy and a light penalty on large logits (z-loss)."""
    return F.cross_entropy(logits, targets) + 1e-4 * logits.logsumexp(1).square().mean()


def smoothed_divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence from smoothed one-hot targets: its lowest is 0."""
    wanted = 0.9 * F.one_hot(targets, logits.shape[1]) + 0.1 / logits.shape[1]
    return F.kl_div(F.log_softmax(logits, dim=1), wanted, reduction="batchmean")


def hard_patterns(*, seed: int) -> Pair:
    """Patterns in heavy noise: learnt by heart at once, understood slowly."""
    images, labels = patterns(seed, 1200, noise=0.35)
    train_x, train_y, val_x, val_y = cut(images, labels)
    return pair((train_x, train_y), (val_x, val_y))


def wide_images(*, seed: int) -> Pair:
    """Images that are not square."""
    images, labels = patterns(seed, side=24)
    train_x, train_y, val_x, val_y = cut(images[:, :, 6:18].contiguous(), labels)
    return pair((train_x, train_y), (val_x, val_y))


def grey_in_three_channels(*, seed: int) -> Pair:
    """Grey images as three equal channels, in bytes."""
    images, labels = digits(seed)
    images = (255 * images).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    train_x, train_y, val_x, val_y = cut(images, labels)
    return pair((train_x, train_y), (val_x, val_y))


def black_and_white(*, seed: int) -> Pair:
    """Pixels of 0 and 1, with a black border around."""
    images, labels = digits(seed)
    images = F.pad((images > 0.4).float(), (4, 4, 4, 4))
    train_x, train_y, val_x, val_y = cut(images, labels)
    return pair((train_x, train_y), (val_x, val_y))


def a_third_mislabelled(*, seed: int) -> Pair:
    """Three training labels in ten are wrong, as in a set from the web."""
    train_x, train_y, val_x, val_y = cut(*digits(seed, 1200))
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(train_y), generator=generator) < 0.3
    others = torch.randint(1, 10, train_y.shape, generator=generator)
    return pair((train_x, torch.where(wrong, (train_y + others) % 10, train_y)), (val_x, val_y))


def few_of_each(*, seed: int) -> Pair:
    """Twenty classes with six training images each."""
    images, labels = patterns(seed, 172, classes=20)
    train_x, train_y, val_x, val_y = cut(images, labels)
    return pair((train_x, train_y), (val_x, val_y))


def nine_to_one(*, seed: int) -> Pair:
    """Two classes, nine to one."""
    images, labels = patterns(seed, 1600, classes=2)
    kept = (labels == 0) | (torch.arange(len(labels)) % 9 == 0)
    train_x, train_y, val_x, val_y = cut(images[kept], labels[kept])
    return pair((train_x, train_y), (val_x, val_y))


class _Flipping(Dataset[Any]):
    """Images that are mirrored at random on access."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.targets = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        image = self.images[index]
        mirrored = bool(torch.rand(()) < 0.5)
        return image.flip(2) if mirrored else image, float(self.targets[index])


def augments_itself(*, seed: int) -> Pair:
    """Training images that their owner augments on access; labels as whole floats."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed))
    return _Flipping(train_x, train_y), TensorDataset(val_x, val_y)


class _Named(Dataset[tuple[Tensor, str]]):
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.numbers = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        return self.images[index], f"digit {int(self.numbers[index])}"


def names_for_labels(*, seed: int) -> Pair:
    """Class names where numbers belong, which mean the same."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return _Named(images, labels), _Named(val_images, val_labels)


def one_hot_labels(*, seed: int) -> Pair:
    """Labels as vectors."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images, F.one_hot(labels)), (val_images, F.one_hot(val_labels)))


def no_channel_axis(*, seed: int) -> Pair:
    """Grey images [H, W]."""
    images, labels, val_images, val_labels = cut(*digits(seed))
    return pair((images[:, 0], labels), (val_images[:, 0], val_labels))


def brighter_cameras(*, seed: int) -> Pair:
    """Light that differs from image to image by a factor of four."""
    images, labels = patterns(seed, 900)
    light = torch.rand(900, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    train_x, train_y, val_x, val_y = cut(images * (0.25 + 0.75 * light), labels)
    return pair((train_x, train_y), (val_x, val_y))


NETWORKS = (
    frozen_norms,
    head_without_bias,
    one_relu_shared,
    double_precision,
    zero_gates,
    tiny_layer_scale,
    weight_norm,
    instance_norm,
    maxout,
    gru_over_rows,
    fixed_scale_and_dropout_block,
    sixteen_default_layers,
    straight_through,
    small_weights_with_norms,
    with_coordinates,
    recomputed,
    blurred,
    attention_pooling,
)
RATES = {"gru-over-rows": "5e-3", "tiny-layer-scale": "3e-3"}  # with AdamW; else SGD's own
LOSSES = (hinge, squared_error, log_softmax_twice, with_logit_penalty, smoothed_divergence)
DATA = (
    hard_patterns,
    wide_images,
    grey_in_three_channels,
    black_and_white,
    a_third_mislabelled,
    few_of_each,
    nine_to_one,
    augments_itself,
    brighter_cameras,
    names_for_labels,
    one_hot_labels,
    no_channel_axis,
)


def _network(case: str, name: str) -> Case:
    adam = ("train.optimizer=adamw", f"train.lr={RATES[case]}") if case in RATES else ()
    return Case(case, (f"model.name={name}", *adam))


HEALTHY = (
    *[_network(name_of(model), import_name(model)) for model in NETWORKS],
    *[Case(f"loss-{name_of(loss)}", (f"train.loss={import_name(loss)}",)) for loss in LOSSES],
    *[Case(f"data-{name_of(data)}", (f"data.name={import_name(data)}",)) for data in DATA],
    Case(
        "prior-bias",
        (
            f"model.name={import_name(prior_bias)}",
            "data.name=planted.first.healthy:imbalanced",
        ),
    ),
    Case("set-clip-with-adam", ("train.optimizer=adam", "train.lr=1e-3", "train.grad_clip=1e-3")),
    Case("set-batches-of-four", (f"data.name={import_name(sound_patterns)}", "train.batch_size=8")),
    Case("set-bfloat16", ("train.precision=bfloat16",)),
    Case("set-lr-5e-3", ("train.lr=5e-3",)),
    Case("set-lr-0.3", ("train.lr=0.3",)),
    Case("set-label-smoothing-0.3", ("train.label_smoothing=0.3",)),
    Case("set-warmup", ("train.warmup_epochs=2.0", "train.schedule=cosine", "train.lr=0.2")),
)
