"""Divide a network into head and backbone, and the backbone into blocks from input to head."""

from collections.abc import Collection, Iterator
from itertools import chain

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList)
WRAPPER = 0.9  # of all parameters: a module with more is a wrapper of the network


def head_of(model: nn.Module) -> nn.Module:
    """The last linear layer or convolution, which computes the logits.

    It is the model itself where that is a single layer or has no such layer.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else model


def blocks_of(model: nn.Module) -> list[list[nn.Module]]:
    """The modules of the backbone that have parameters, from the input to the head.

    They are the model's children, with plain containers and wrappers expanded: the blocks of a
    ResNet, the layers of a VGG, the encoder layers of a ViT. A norm belongs to the block before it.
    Parameters of a wrapper itself, such as the position embedding of a ViT, belong to no block.
    """
    total = sum(p.numel() for p in model.parameters())
    head = head_of(model)
    blocks: list[list[nn.Module]] = []
    for module in _opened(model, total):
        if module is head:
            continue
        if blocks and all(p.ndim < 2 for p in module.parameters()):
            blocks[-1].append(module)
        else:
            blocks.append([module])
    return blocks


def _opened(module: nn.Module, total: int) -> Iterator[nn.Module]:
    for child in module.children():
        size = sum(p.numel() for p in child.parameters())
        if type(child) in CONTAINERS or (size > WRAPPER * total and any(child.children())):
            yield from _opened(child, total)
        elif size:
            yield child


def rate_factors(
    model: nn.Module, backbone: float, layer_decay: float
) -> dict[nn.Parameter, float]:
    """The factor of each parameter's learning rate.

    1 in the head, `backbone` in the block before it, and `layer_decay` times that of the next block
    in each earlier one; parameters outside all blocks have the factor of the first block.
    """
    blocks = blocks_of(model)
    first = backbone * layer_decay ** max(len(blocks) - 1, 0)
    factors = dict.fromkeys(model.parameters(), first)
    for distance, block in enumerate(reversed(blocks)):
        for module in block:
            factors |= dict.fromkeys(module.parameters(), backbone * layer_decay**distance)
    return factors | dict.fromkeys(head_of(model).parameters(), 1.0)


def train_from_head(model: nn.Module, thawed: int, trainable: Collection[nn.Parameter]) -> None:
    """Train the head and the last `thawed` blocks; freeze the blocks before them.

    Frozen blocks are in eval mode: their norms keep their statistics and dropout is off. Parameters
    that are not in `trainable` always stay frozen.
    """
    blocks = blocks_of(model)
    whole = thawed >= len(blocks)
    last = chain.from_iterable(blocks[len(blocks) - thawed :])
    trained = [model] if whole else [head_of(model), *last]
    model.eval()
    for parameter in trainable:
        parameter.requires_grad_(False)
    for module in trained:
        module.train()
        for parameter in module.parameters():
            parameter.requires_grad_(parameter in trainable)
