"""Sound set-ups, odd but right, written with the bugs that a tester would plant."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

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


def capsule_votes(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Places vote for classes; three rounds of agreement weigh the votes (Sabour et al. 2017)."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(in_shape[0], 64, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(64)
            self.votes = nn.Linear(64, 8 * num_classes)
            self.scale = nn.Parameter(torch.tensor(8.0))

        def forward(self, x: Tensor) -> Tensor:
            places = F.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)  # [N, P, 64]
            votes = self.votes(places).unflatten(2, (num_classes, 8))  # [N, P, C, 8]
            agreement = votes.new_zeros(votes.shape[:3])
            for _ in range(3):
                poses = (agreement.softmax(2)[..., None] * votes).sum(1)
                lengths = poses.norm(dim=2, keepdim=True)
                poses = poses / (1e-3 + lengths) * lengths.square() / (1 + lengths.square())
                agreement = agreement + (votes * poses[:, None]).sum(3)
            result: Tensor = self.scale * poses.square().sum(2).add(1e-6).sqrt()
            return result

    return Net()


def two_experts(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Two networks, mixed by a softmax gate that sees the image."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(plain_cnn(num_classes, in_shape) for _ in range(2))
            self.gate = mlp(2, in_shape, hidden=0)

        def forward(self, x: Tensor) -> Tensor:
            shares = self.gate(x).softmax(1)
            each = torch.stack([expert(x) for expert in self.experts], dim=1)
            result: Tensor = (shares[:, :, None] * each).sum(1)
            return result

    return Net()


def alpha_dropout(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """SELU with LeCun weights and alpha dropout."""
    net = nn.Sequential(nn.Flatten())
    sizes = [math.prod(in_shape), 128, 128, 128]
    for i in range(3):
        net += nn.Sequential(nn.Linear(sizes[i], sizes[i + 1]), nn.SELU(), nn.AlphaDropout(0.1))
    net.append(nn.Linear(128, num_classes))
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    return net


def rms_norms(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Residual layers with RMS norms and SwiGLU, no bias anywhere."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.RMSNorm(64)
            self.up = nn.Linear(64, 256, bias=False)
            self.down = nn.Linear(128, 64, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            gate, value = self.up(self.norm(x)).chunk(2, dim=1)
            out: Tensor = x + self.down(F.silu(gate) * value)
            return out

    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(in_shape), 64, bias=False),
        *[Block() for _ in range(3)],
        nn.RMSNorm(64),
        nn.Linear(64, num_classes, bias=False),
    )


def space_to_depth(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Blocks of 2x2 pixels as channels, then 3x3 convolutions."""
    return nn.Sequential(
        nn.PixelUnshuffle(2),
        nn.Conv2d(4 * in_shape[0], 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.Hardswish(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, num_classes),
    )


def random_fourier_features(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Cosines of fixed random projections under a linear classifier (Rahimi and Recht 2007)."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = math.prod(in_shape)
            self.register_buffer("directions", torch.randn(size, 512) / (2 * size**0.5))
            self.register_buffer("phases", 2 * math.pi * torch.rand(512))
            self.head = nn.Linear(512, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            angles = x.flatten(1) @ self.get_buffer("directions") + self.get_buffer("phases")
            logits: Tensor = self.head(angles.cos())
            return logits

    return Net()


def gabor_filters(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A first layer of fixed Gabor filters, frozen on purpose."""
    first = nn.Conv2d(in_shape[0], 16, 5, padding=2, bias=False)
    y, x = torch.meshgrid(torch.arange(-2.0, 3), torch.arange(-2.0, 3), indexing="ij")
    filters = [
        torch.exp(-(x * x + y * y) / 4)
        * torch.cos(math.pi / 2 * (x * math.cos(angle) + y * math.sin(angle)) + phase)
        for angle in torch.arange(8).mul(math.pi / 8).tolist()
        for phase in (0.0, math.pi / 2)
    ]
    with torch.no_grad():
        first.weight.copy_(torch.stack(filters)[:, None].expand_as(first.weight))
    first.requires_grad_(False)
    return nn.Sequential(
        first,
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


def kernels_of_seven(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Kernels of 7x7 on images of 8x8, depthwise and full."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 7, padding=3),
        nn.BatchNorm2d(32),
        nn.GELU(),
        nn.Conv2d(32, 32, 7, padding=3, groups=32),
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 64, 1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, num_classes),
    )


def one_by_one_on_patches(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Nothing but 1x1 convolutions, on means over patches of 2x2."""
    places = in_shape[1] // 2 * (in_shape[2] // 2)
    return nn.Sequential(
        nn.AvgPool2d(2),
        nn.Conv2d(in_shape[0], 16, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * places, num_classes),
    )


def negative_distances(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Logits are minus the squared distances to learned prototypes: none is above 0."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.project = nn.Linear(64, 16)
            self.prototypes = nn.Parameter(torch.randn(num_classes, 16) / 4)
            del self.head

        def forward(self, x: Tensor) -> Tensor:
            offsets = self.project(self.features(x))[:, None] - self.prototypes
            result: Tensor = -offsets.square().sum(2)
            return result

    return Net()


def highway(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Five highway layers whose gates start nearly shut, biases of -2 (Srivastava et al. 2015)."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.change, self.gate = nn.Linear(64, 64), nn.Linear(64, 64)
            nn.init.constant_(self.gate.bias, -2.0)

        def forward(self, x: Tensor) -> Tensor:
            gate = self.gate(x).sigmoid()
            result: Tensor = gate * F.relu(self.change(x)) + (1 - gate) * x
            return result

    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(in_shape), 64),
        *[Layer() for _ in range(5)],
        nn.Linear(64, num_classes),
    )


def dynamic_kernels(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Each image mixes its own kernel from four, by a grouped convolution over the batch."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(in_shape[0], 16, 3, padding=1)
            self.norm = nn.BatchNorm2d(16)
            self.kernels = nn.Parameter(torch.randn(4, 32, 16, 3, 3) / 12)
            self.gate = nn.Linear(16, 4)
            self.head = nn.Linear(128, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            maps = F.relu(self.norm(self.stem(x)))
            shares = self.gate(maps.mean((2, 3))).softmax(1)
            kernels = torch.einsum("nk,koihw->noihw", shares, self.kernels).flatten(0, 1)
            joined = maps.reshape(1, -1, *maps.shape[2:])
            out = F.conv2d(joined, kernels, padding=1, groups=len(x))
            out = F.relu(out).view(len(x), 32, *maps.shape[2:])
            logits: Tensor = self.head(F.adaptive_avg_pool2d(out, 2).flatten(1))
            return logits

    return Net()


def frequencies(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The image's Fourier transform, real and imaginary parts side by side, then an MLP."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            channels, height, width = in_shape
            self.layers = mlp(num_classes, (2 * channels, height, width // 2 + 1))

        def forward(self, x: Tensor) -> Tensor:
            waves = torch.fft.rfft2(x, norm="ortho")
            logits: Tensor = self.layers(torch.cat([waves.real, waves.imag], dim=1))
            return logits

    return Net()


def winners_only(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The sixteen largest of 128 features stay, the others are set to 0."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(math.prod(in_shape), 128)
            self.head = nn.Linear(128, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            features = self.first(x.flatten(1))
            least = features.topk(16, dim=1).values[:, -1:]
            logits: Tensor = self.head(features * (features >= least))
            return logits

    return Net()


def dropped_weights(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Half of a layer's weights dropped at random in training (Wan et al. 2013)."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            weight = F.dropout(self.fc.weight, 0.5, self.training)
            return F.relu(F.linear(self.maps(x).flatten(1), weight, self.fc.bias))

    return Net(num_classes, in_shape)


def iterated_block(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Small steps by one block used six times, as a solver of a differential equation takes."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(in_shape[0], 32, 3, padding=1)
            self.change = nn.Conv2d(32, 32, 3, padding=1)
            self.head = nn.Linear(128, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            state = self.stem(x)
            for _ in range(6):
                state = state + torch.tanh(self.change(state)) / 6
            logits: Tensor = self.head(F.adaptive_avg_pool2d(state, 2).flatten(1))
            return logits

    return Net()


def cosine_times_30(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Cosine similarities times 30, for a loss with a margin."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            directions = F.normalize(self.features(x), dim=1)
            return 30 * directions @ F.normalize(self.head.weight, dim=1).T

    return Net(num_classes, in_shape)


def margin(logits: Tensor, targets: Tensor) -> Tensor:
    """A margin of 0.2 on the cosine of the right class, at a scale of 30 (CosFace, 2018)."""
    return F.cross_entropy(logits - 6.0 * F.one_hot(targets, logits.shape[1]), targets)


def poly_one(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy plus 1 - p (Poly-1, Leng et al. 2022)."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (losses + 1 - torch.exp(-losses)).mean()


def generalised(logits: Tensor, targets: Tensor) -> Tensor:
    """(1 - p^q) / q with q = 0.5, for noisy labels (Zhang and Sabuncu 2018)."""
    right = F.softmax(logits, dim=1).gather(1, targets[:, None])
    return ((1 - right.sqrt()) / 0.5).mean()


class _Bytes(Dataset[Any]):
    """Images kept as bytes, turned into floats on access."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.numbers = (255 * images).round().to(torch.uint8), labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index].float() / 255, self.numbers[index]


def bytes_on_disk(*, seed: int) -> Pair:
    """Grey images kept as bytes, labels as tensors of no axis."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed, channels=1))
    return _Bytes(train_x, train_y), _Bytes(val_x, val_y)


def dark_images(*, seed: int) -> Pair:
    """Pictures of the night: no pixel above 0.1."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed, noise=0.02))
    return pair((0.1 * train_x, train_y), (0.1 * val_x, val_y))


def sparse_points(*, seed: int) -> Pair:
    """Hits in a detector: nine pixels of ten are 0, the class tells where the others lie."""
    images, labels = patterns(seed, channels=1, noise=0.0)
    chance = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed))
    hits = (chance < 0.5 * images.square()).float()
    train_x, train_y, val_x, val_y = cut(hits, labels)
    return pair((train_x, train_y), (val_x, val_y))


def fifty_classes(*, seed: int) -> Pair:
    """Fifty classes, eight images of each, split at random."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed, 400, classes=50))
    return pair((train_x, train_y), (val_x, val_y))


def thirty_two_images(*, seed: int) -> Pair:
    """Thirty-two training images of two classes, sixteen for validation."""
    images, labels = digits(seed)
    kept = (labels < 2).nonzero().flatten()[:48]
    images, labels = images[kept], labels[kept]
    return pair((images[:32], labels[:32]), (images[32:], labels[32:]))


def wide_range(*, seed: int) -> Pair:
    """Radar images: the exponential of a pattern, from 1 to 100."""
    train_x, train_y, val_x, val_y = cut(*patterns(seed, channels=1))
    return pair(((4.6 * train_x).exp(), train_y), ((4.6 * val_x).exp(), val_y))


NETWORKS = (
    capsule_votes,
    two_experts,
    space_to_depth,
    kernels_of_seven,
    one_by_one_on_patches,
    dynamic_kernels,
    frequencies,
    winners_only,
    dropped_weights,
    iterated_block,
)
RATES = {alpha_dropout: 1e-2, negative_distances: 1e-2, random_fourier_features: 0.2}
WITH_ADAM = (rms_norms, highway)
DATA = (bytes_on_disk, dark_images, sparse_points, fifty_classes, wide_range)
PATTERNS = f"data.name={import_name(sound_patterns)}"
ADAM = ("train.optimizer=adamw", "train.lr=2e-3")

HEALTHY = (
    *[Case(name_of(model), (f"model.name={import_name(model)}",)) for model in NETWORKS],
    *[Case(name_of(model), (f"model.name={import_name(model)}", *ADAM)) for model in WITH_ADAM],
    *[
        Case(name_of(model), (f"model.name={import_name(model)}", f"train.lr={lr}"))
        for model, lr in RATES.items()
    ],
    Case("gabor-filters", (f"model.name={import_name(gabor_filters)}",), legal=True),
    Case(
        "cosine-with-margin",
        (f"model.name={import_name(cosine_times_30)}", f"train.loss={import_name(margin)}"),
    ),
    *[
        Case(f"loss-{name_of(loss)}", (f"train.loss={import_name(loss)}",))
        for loss in (poly_one, generalised)
    ],
    *[Case(f"data-{name_of(data)}", (f"data.name={import_name(data)}",)) for data in DATA],
    Case(
        "data-thirty-two-images",
        (f"data.name={import_name(thirty_two_images)}", "train.batch_size=8"),
    ),
    Case("set-sgd-lr-0.5", ("train.lr=0.5", "train.momentum=0.0")),
    Case(
        "set-warmup-cosine-ema",
        (PATTERNS, "train.warmup_epochs=2.0", "train.schedule=cosine", "train.ema=0.9"),
    ),
)
