"""The table of models: their arguments, their sizes, and where they were published.

`docs/models.md` is written by `page`; a test checks that it is up to date.
"""

import inspect
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from cnntune import models
from cnntune.models.blocks import Block
from cnntune.models.from_timm import TIMM
from cnntune.models.layers import Activation

GIVEN = ("num_classes", "in_shape")  # arguments that depend on the data


@dataclass(frozen=True)
class Row:
    """A model at full size; `published` is the number of parameters stated in its source."""

    name: str
    reference: str
    published: str = ""
    in_shape: tuple[int, int, int] = (3, 224, 224)
    num_classes: int = 1000

    def source(self) -> str:
        """The library that implements it."""
        return "cnntune" if self.name in models.BUILT_IN else "torchvision"

    def arguments(self) -> str:
        """The recipe's keys and their defaults; without a default the published value is used."""
        parameters = inspect.signature(models.builder(self.name)).parameters.values()
        given = [p for p in parameters if p.name not in GIVEN]
        return ", ".join(
            f"`{p.name}`" if p.default is None else f"`{p.name} = {_toml(p.default)}`"
            for p in given
        )

    def parameters(self) -> int:
        """The number of parameters, counted on the meta device."""
        with torch.device("meta"):
            model = models.builder(self.name)(num_classes=self.num_classes, in_shape=self.in_shape)
        return sum(parameter.numel() for parameter in model.parameters())


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


_KRIZHEVSKY = "Krizhevsky 2014, arXiv:1404.5997"
_VGG = "Simonyan and Zisserman 2015, arXiv:1409.1556"
_HE = "He et al. 2015, arXiv:1512.03385"
_EFFICIENTNET = "Tan and Le 2019, arXiv:1905.11946"
_CONVNEXT = "Liu et al. 2022, arXiv:2201.03545"

ROWS = (
    Row("small-cnn", "", in_shape=(3, 32, 32), num_classes=10),
    Row("small-resnet", f"{_HE}, section 4.2", in_shape=(3, 32, 32), num_classes=10),
    Row("block-net", "", in_shape=(3, 32, 32), num_classes=10),
    Row("lenet5", "LeCun et al. 1998, Proc. IEEE 86", "60 k", (1, 32, 32), 10),
    Row("alexnet", _KRIZHEVSKY, "61 M"),
    Row("zfnet", "Zeiler and Fergus 2014, arXiv:1311.2901"),
    Row("vgg16", _VGG, "138 M"),
    Row("vgg16_bn", _VGG, "138 M"),
    Row("vgg19", _VGG, "144 M"),
    Row("vgg19_bn", _VGG, "144 M"),
    Row("googlenet", "Szegedy et al. 2015, arXiv:1409.4842", "5 M"),
    Row("inception_v3", "Szegedy et al. 2016, arXiv:1512.00567", "25 M", (3, 299, 299)),
    Row("plain20", f"{_HE}, section 4.2", "0.27 M", (3, 32, 32), 10),
    Row("plain56", f"{_HE}, section 4.2", "0.85 M", (3, 32, 32), 10),
    Row("resnet20", f"{_HE}, table 6", "0.27 M", (3, 32, 32), 10),
    Row("resnet56", f"{_HE}, table 6", "0.85 M", (3, 32, 32), 10),
    Row("resnet18", _HE, "11.7 M"),
    Row("resnet34", _HE, "21.8 M"),
    Row("resnet50", _HE, "25.6 M"),
    Row("resnet101", _HE, "44.5 M"),
    Row("resnet152", _HE, "60.2 M"),
    Row("resnext50_32x4d", "Xie et al. 2017, arXiv:1611.05431", "25.0 M"),
    Row("densenet121", "Huang et al. 2017, arXiv:1608.06993", "8.0 M"),
    Row("se_resnet50", "Hu et al. 2018, arXiv:1709.01507", "28.1 M"),
    Row("mobilenet_v1", "Howard et al. 2017, arXiv:1704.04861", "4.2 M"),
    Row("mobilenet_v2", "Sandler et al. 2018, arXiv:1801.04381", "3.4 M"),
    *(
        Row(f"efficientnet_b{i}", _EFFICIENTNET, f"{millions} M")
        for i, millions in enumerate(("5.3", "7.8", "9.2", "12", "19", "30", "43", "66"))
    ),
    Row("convnext_tiny", _CONVNEXT, "29 M"),
    Row("convnext_small", _CONVNEXT, "50 M"),
    Row("convnext_base", _CONVNEXT, "89 M"),
    Row("convnext_large", _CONVNEXT, "198 M"),
)


def page() -> str:
    """`docs/models.md`; builds every model of the table on the meta device, in a few seconds."""
    return "\n".join([INTRODUCTION, *_lines(), NOTES])


def _lines() -> Iterator[str]:
    yield "| model | code | arguments | image | classes | parameters | published | reference |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in ROWS:
        image = "x".join(map(str, row.in_shape))
        yield (
            f"| `{row.name}` | {row.source()} | {row.arguments()} | {image} | {row.num_classes}"
            f" | {row.parameters():,} | {row.published} | {row.reference} |"
        )


def _words(literal: object) -> str:
    return ", ".join(f"`{word}`" for word in typing.get_args(literal))


def _argument_lines() -> str:
    return "\n".join(
        textwrap.fill(
            f"- `{name}`: {meaning}.", 100, subsequent_indent="  ", break_on_hyphens=False
        )
        for name, meaning in ARGUMENTS.items()
    )


# What the arguments of the models mean; `docs/reference/recipe.md` has them too.
ARGUMENTS = {
    "width": "channels of the first stage; each later stage has twice as many",
    "depth": "convolutions of `small-cnn`, blocks per stage of `small-resnet`",
    "norm": "`batch`, `layer` (each image over C, H and W), `instance` (each channel of an image),"
    " `group` (up to 8 groups of channels), `none`",
    "activation": f"nonlinearity: {_words(Activation)}",
    "init": "`kaiming`, `xavier`, `normal:STD` such as `normal:0.01`, `default` (what torch draws)",
    "block": f"kind of block: {_words(Block)}",
    "widths": "channels of each stage, such as `[32, 64, 128]`; a single width doubles from stage"
    " to stage",
    "depths": "blocks of each stage, such as `[2, 2, 2]`; a single depth is that of each stage",
    "dropout": "share of the activations that are dropped",
    "stem": "`small` lets the first convolution keep the size of the map and removes the pooling"
    " after it; `auto` does so for images of up to 64 pixels; `imagenet` does not",
    "stochastic_depth": "share of the images that skip the last branch; only for blocks with a"
    " shortcut",
    "auxiliary": "heads in the middle of the network, whose loss counts 0.3 in training and not at"
    " all elsewhere",
    "drop_rate": "dropout of timm's models",
}

INTRODUCTION = """\
# Models

This page is generated by `python docs/write_models.py`; a test checks that it is up to date.

A recipe names a model and its arguments, and any argument can be searched:

```toml
[model]
name = "block-net"
block = "bottleneck"

[space]
model.norm = { choice = ["batch", "group"] }
```

Every classifier of torchvision can be used by its name, `timm:NAME` is any model of timm (`pip
install "cnntune[timm]"`), and `my_pkg.models:build` is your own function. All are adapted to the
classes, channels and size of your images. The table lists the architectures of the CS231n lectures
at their full size, with the counted and the published number of parameters.
"""

NOTES = f"""
## Arguments
{_argument_lines()}
- An argument without a default is as published. `{TIMM}NAME` takes `drop_rate` and whatever
  `timm.create_model` takes.

## Where counts differ
- `lenet5`: in the paper each map of the second convolution uses only some of the first.
- `alexnet` is the single-column network of 2014; that of 2012 has 61-62 M as well.
- `googlenet`: the paper's 5 M is rounded down; without the auxiliary heads (`auxiliary = false`)
  it is 6,624,904, with them about twice as many.
- `inception_v3`: 23,834,568 without the auxiliary head.
- `mobilenet_v2`: the paper's 3.4 M is rounded down.
- `zfnet`: the paper gives no count.
"""
