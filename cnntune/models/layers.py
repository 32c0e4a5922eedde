"""The recipe's names for norms, activations and initial weights, and their layers."""

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from torch import nn

Norm = Literal["batch", "layer", "instance", "group", "none"]
Activation = Literal["relu", "leaky-relu", "elu", "celu", "gelu", "silu", "tanh", "sigmoid"]
Dropout = Annotated[float, Field(ge=0, lt=1)]

GROUPS = 8  # Wu and He 2018, table 3: any number from 2 to 64 is within a point of the best
MIN_MAP = 4  # pixels per side; below it a 3x3 convolution covers mostly padding
HEAD_STD = 0.2  # of the logits for features of RMS 1; without norms their RMS grows to 5
HE_GAIN = math.sqrt(2)  # He et al. 2015: half of the variance is lost in a rectifier
XAVIER_GAIN = 1.0  # Glorot and Bengio 2010: tanh is linear around 0; torch's gain for sigmoid too

# The smooth rectifiers use the gain of ReLU.
ACTIVATIONS: dict[Activation, tuple[Callable[[], nn.Module], float]] = {
    "relu": (nn.ReLU, HE_GAIN),
    "leaky-relu": (nn.LeakyReLU, HE_GAIN),
    "elu": (nn.ELU, HE_GAIN),
    "celu": (nn.CELU, HE_GAIN),
    "gelu": (nn.GELU, HE_GAIN),
    "silu": (nn.SiLU, HE_GAIN),
    "tanh": (nn.Tanh, XAVIER_GAIN),
    "sigmoid": (nn.Sigmoid, XAVIER_GAIN),
}


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """The normalisation layer for `[N, channels, H, W]`.

    "layer" normalises each image over C, H and W, "instance" each of its channels over H and W,
    "group" up to 8 groups of its channels.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "layer":
        return nn.GroupNorm(1, channels)
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if norm == "group":
        return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
    return nn.Identity()


def _check_init(text: str) -> str:
    name, colon, std = text.partition(":")
    number = re.fullmatch(r"\d+(\.\d*)?(e-?\d+)?|\.\d+(e-?\d+)?", std)
    if name == "normal" and number and 0 < float(std) < math.inf:
        return text
    if text in ("kaiming", "xavier", "default") and not colon:
        return text
    raise PydanticCustomError("init", "must be kaiming, xavier, default or normal:STD")


Init = Annotated[str, AfterValidator(_check_init)]


def keeps_scale(init: Init) -> bool:
    """Whether the initial weights are chosen to keep the RMS of the activations."""
    return init in ("kaiming", "xavier")


def initialise(module: nn.Module, init: Init, activation: Activation) -> None:
    """Draw the weights of all convolutions and linear layers in `module`, and set biases to 0.

    "kaiming" is normal with the activation's gain over sqrt(fan-in) (He et al. 2015), "xavier"
    normal with sqrt(2 / (fan-in + fan-out)) (Glorot and Bengio 2010), "normal:0.01" normal with
    standard deviation 0.01 everywhere, and "default" keeps torch's initialisation.
    """
    for layer in module.modules():
        if init == "default" or not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if init == "kaiming":
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=ACTIVATIONS[activation][1] / math.sqrt(fan_in))
        elif init == "xavier":
            nn.init.xavier_normal_(layer.weight)
        else:
            nn.init.normal_(layer.weight, std=float(init.partition(":")[2]))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def halvings_of(size: int) -> int:
    """How often `size` can be halved without falling below `MIN_MAP`."""
    return int(math.log2(max(size / MIN_MAP, 1)))


def head(features: int, num_classes: int, dropout: float, std: float) -> nn.Module:
    """Mean over the map, dropout, linear; features of RMS 1 give logits of RMS `std`."""
    linear = nn.Linear(features, num_classes)
    nn.init.normal_(linear.weight, std=std / math.sqrt(features))
    nn.init.zeros_(linear.bias)
    return nn.Sequential(
        OrderedDict(
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            linear=linear,
        )
    )
