"""A network as head and backbone, and the backbone as blocks from the input to the head."""

from collections.abc import Collection, Iterator
from itertools import chain

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList)
WRAPPER = 0.9  # of all parameters: a module that holds more is the network in a wrapper


def head_of(model: nn.Module) -> nn.Module:
    """The last linear layer or convolution, which gives the logits.

    It is the model itself where that is a single layer, or has no such layer.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else model


def blocks_of(model: nn.Module) -> list[list[nn.Module]]:
    """The parts of the backbone that have parameters, from the input to the head.

    They are the model's children, with plain containers and wrappers opened: the blocks of a
    ResNet, the layers of a VGG, the encoder's layers of a ViT. A norm belongs to what stands before
    it. Parameters of a wrapper itself, such as the positions of a ViT, belong to no block.
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
    """What each parameter's learning rate is multiplied by.

    1 in the head, `backbone` in the block next to it, and `layer_decay` times that of its successor
    in each block before; parameters outside all blocks have the factor of the first block.
    """
    blocks = blocks_of(model)
    first = backbone * layer_decay ** max(len(blocks) - 1, 0)
    factors = dict.fromkeys(model.parameters(), first)
    for distance, block in enumerate(reversed(blocks)):
        for module in block:
            factors |= dict.fromkeys(module.parameters(), backbone * layer_decay**distance)
    return factors | dict.fromkeys(head_of(model).parameters(), 1.0)


def train_from_head(model: nn.Module, thawed: int, trainable: Collection[nn.Parameter]) -> None:
    """Train the head and the last `thawed` blocks; what stands before them stays as it is.

    A frozen part is in eval mode: its norms keep their statistics and its dropout is off.
    Parameters that are not `trainable` stay frozen in any case.
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
