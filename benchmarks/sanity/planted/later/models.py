"""Networks with one bug each, written after the rules were: what these miss, others miss too."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planted.parts import Shape, Small, mlp


def returns_a_pair(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Logits together with the features, as for a plot."""

    class Net(Small):
        def forward(self, x: Tensor) -> Any:
            features = self.features(x)
            return self.head(features), features

    return Net(num_classes, in_shape)


def returns_nothing(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The return statement forgotten."""

    class Net(Small):
        def forward(self, x: Tensor) -> Any:
            self.head(self.features(x))

    return Net(num_classes, in_shape)


def returns_a_dictionary(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Logits under a name, as detection models do."""

    class Net(Small):
        def forward(self, x: Tensor) -> Any:
            return {"logits": super().forward(x)}

    return Net(num_classes, in_shape)


def mean_over_images(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Logits averaged over the batch, the wrong axis of a pooling."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).mean(0)

    return Net(num_classes, in_shape)


def mean_of_images_expanded(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features averaged over the batch and given back to every image."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            features = super().features(x)
            return features.mean(0, keepdim=True).expand_as(features)

    return Net(num_classes, in_shape)


def equal_logits(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """One score, broadcast to all classes."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).mean(1, keepdim=True).expand(-1, num_classes)

    return Net(num_classes, in_shape)


def sorted_logits(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The topk of all classes, which forgets which class is which."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).topk(num_classes, dim=1).values

    return Net(num_classes, in_shape)


def exponential_output(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """An exp at the end, as if the network gave log-probabilities."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).exp()

    return Net(num_classes, in_shape)


def layer_norm_on_logits(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A layer norm without gain as last layer: no logit beyond sqrt(C)."""
    return nn.Sequential(
        Small(num_classes, in_shape), nn.LayerNorm(num_classes, elementwise_affine=False)
    )


def half_precision_overflow(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features summed in float16, which ends at 65,504."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return (1e6 * super().features(x)).half().float() / 1e6

    return Net(num_classes, in_shape)


def changed_after_sigmoid(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A sigmoid's result changed in place: backward needs it as it was."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            gates = torch.sigmoid(super().features(x))
            gates += 1
            return gates

    return Net(num_classes, in_shape)


def product_of_zeros(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Two gates that both start at 0: neither ever gets a gradient."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.first_gate = nn.Parameter(torch.zeros(64))
            self.second_gate = nn.Parameter(torch.zeros(64))

        def features(self, x: Tensor) -> Tensor:
            return super().features(x) * self.first_gate * self.second_gate

    return Net()


def no_activations(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Five layers and nothing between them: together one linear map."""
    return mlp(num_classes, in_shape, hidden=4, activation=nn.Identity)


def activation_result_dropped(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """F.relu called and its result not kept."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(in_shape[0], 16, 3, padding=1)
            self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
            self.head = nn.Linear(32 * 4, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv1(x)
            F.relu(x)
            x = self.conv2(x)
            F.relu(x)
            logits: Tensor = self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))
            return logits

    return Net()


def changes_its_input(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The images scaled in place: whoever called sees them changed."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            x.mul_(0.5).sub_(0.1)
            return super().forward(x)

    return Net(num_classes, in_shape)


def every_other_call(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A counter that mirrors the images at every second call."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x.flip(3) if self.calls % 2 else x)

    return Net()


def numpy_noise(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Half of the features dropped by NumPy's generator, in eval mode too."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            kept = np.random.default_rng().random(64) > 0.5  # the bug: never the same
            return super().features(x) * torch.from_numpy(kept).to(x.device)

    return Net(num_classes, in_shape)


def norm_without_statistics(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Batch norms with track_running_stats=False: batch statistics in eval mode."""
    net = Small(num_classes, in_shape)
    net.bn1 = nn.BatchNorm2d(16, track_running_stats=False)
    net.bn2 = nn.BatchNorm2d(32, track_running_stats=False)
    return net


def skipped_in_eval(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A layer that is only run in train mode."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.extra = nn.Linear(64, 64)

        def features(self, x: Tensor) -> Tensor:
            features = super().features(x)
            return F.relu(self.extra(features)) if self.training else features

    return Net()


def dropout_of_everything(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Dropout of 1.0: nothing reaches the head in training."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return F.dropout(super().features(x), 1.0, training=self.training)

    return Net(num_classes, in_shape)


def growing_residuals(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Forty residual branches of full size, added without a norm."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1)
            nn.init.kaiming_normal_(self.conv.weight)

        def forward(self, x: Tensor) -> Tensor:
            return x + F.relu(self.conv(x))

    return nn.Sequential(
        nn.Conv2d(in_shape[0], 16, 3, padding=1),
        *[Block() for _ in range(40)],
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


def features_clamped_away(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Maps clamped to a range a thousand times smaller than they are."""

    class Net(Small):
        def maps(self, x: Tensor) -> Tensor:
            return super().maps(x).clamp(-1e-4, 1e-4)

    return Net(num_classes, in_shape)


def permuted_again(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Images that come as [C, H, W] permuted as if they were [H, W, C]."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.permute(0, 3, 1, 2))

    return Net(num_classes, in_shape)


def flattened_with_the_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """flatten() without start_dim=1: one long vector."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return F.relu(self.fc(self.maps(x).flatten()))

    return Net(num_classes, in_shape)


def head_of_one_unit(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A bottleneck of a single ReLU before the head."""
    return nn.Sequential(Small(1, in_shape), nn.ReLU(), nn.Linear(1, num_classes))


def orphaned_after_copy(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Weights computed once in __init__ from a parameter, and used in its place."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.scaled = (0.5 * self.fc.weight).detach()

        def features(self, x: Tensor) -> Tensor:
            return F.relu(F.linear(self.maps(x).flatten(1), self.scaled))

    return Net()


def reversed_gradient(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """An operation of one's own whose backward has the wrong sign."""

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(_: Any, gradient: Tensor) -> Tensor:
            return -2 * gradient

    class Net(Small):
        def maps(self, x: Tensor) -> Tensor:
            maps: Tensor = Doubled.apply(super().maps(x))
            return maps

    return Net(num_classes, in_shape)


def gradient_hooked_away(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A hook, left from an experiment, that sets a gradient to zero."""

    class Net(Small):
        def maps(self, x: Tensor) -> Tensor:
            maps = super().maps(x)
            if maps.requires_grad:
                maps.register_hook(torch.zeros_like)
            return maps

    return Net(num_classes, in_shape)


def detached_branch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A residual branch that is added without its gradient."""

    class Net(Small):
        def __init__(self) -> None:
            super().__init__(num_classes, in_shape)
            self.branch = nn.Linear(64, 64)

        def features(self, x: Tensor) -> Tensor:
            features = super().features(x)
            return features + F.relu(self.branch(features)).detach()

    return Net()


def priors_alone(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """The head's bias in place of its result."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            features = self.features(x)
            return self.head.bias.expand(len(features), -1)

    return Net(num_classes, in_shape)


def tied_classes(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Half of the logits, repeated for the other half of the classes."""

    class Net(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, : num_classes // 2].repeat(1, 2)

    return Net(num_classes, in_shape)


def shuffled_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Features shuffled within the batch and not put back."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            features = super().features(x)
            return features[torch.randperm(len(features))]

    return Net(num_classes, in_shape)


def summed_along_the_batch(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A cumsum over axis 0: each image gets what came before it."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return super().features(x).cumsum(0)

    return Net(num_classes, in_shape)


def positive_weights(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Weights from torch.rand: all positive, six layers deep."""
    net = mlp(num_classes, in_shape, hidden=6)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight)
    return net


def nothing_left(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Pooled once too often for images of this size."""
    return nn.Sequential(
        *[
            nn.Sequential(nn.Conv2d(c, 16, 3), nn.ReLU(), nn.MaxPool2d(2))
            for c in (in_shape[0], 16)
        ],
        nn.Conv2d(16, 16, 3),
        nn.Flatten(),
        nn.Linear(16, num_classes),
    )


def frozen_copy_each_call(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """A layer that is built anew in every forward pass."""

    class Net(Small):
        def features(self, x: Tensor) -> Tensor:
            return F.relu(nn.Linear(64, 64, device=x.device)(super().features(x)))

    return Net(num_classes, in_shape)


def sees_one_row(*, num_classes: int, in_shape: Shape) -> nn.Module:
    """Reads x[:, 0] where x[:, :, 0] or a loop was meant: one row of pixels."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(in_shape[2], 64), nn.ReLU(), nn.Linear(64, num_classes)
            )

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.net(x[:, 0, in_shape[1] // 2])
            return logits

    return Net()
