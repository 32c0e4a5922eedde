"""The autograd graph below a loss."""

from __future__ import annotations

import math
from typing import Any

from .seen import SEEN

MAX_NODES = 20_000  # of a graph that are followed
MAX_TOP_NODES = 500  # of them, between a loss and the results of models
HIDDEN_SUMS = ("Dot", "Mv", "Mm", "Bmm", "Norm", "LinalgVectorNorm", "Dist", "Cumsum")
MAX_TERMS = 200  # nodes above the terms of a loss
MEANT = 1  # the reduction of torch's losses, in their graph nodes: a mean
SUMMED = 2  # the reduction of torch's losses, in their graph nodes
MANY_TERMS = 3  # of one kind: samples, where two may be two tasks
MARK = "cnntune"  # key in a graph node's metadata
SKIPPED = (  # operations that change the shape or the type of a value only
    "View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute", "T",
    "Transpose", "Slice", "Select", "Index", "ToCopy", "Clone", "Expand", "Alias", "Gather",
    "Flatten",
)  # fmt: skip


def bare(node: Any) -> str:
    """`Softmax` of `SoftmaxBackward0`."""
    return str(node.name()).split("Backward")[0].rsplit("::", 1)[-1]


def below(node: Any) -> Any:
    """What a node was computed from: its first differentiable input, shapes and types skipped."""
    for _ in range(20):
        node = next((other for other, _ in node.next_functions if other is not None), None)
        if node is None or bare(node) not in SKIPPED:
            return node
    return node


def origin(tensor: Any) -> tuple[str, bool]:
    """The operation that a tensor is the result of, and whether one value per row was chosen."""
    node, picked = tensor.grad_fn, False
    for _ in range(20):
        if node is None:
            return "", picked
        name = bare(node)
        picked = picked or name == "Gather"
        if name not in SKIPPED:
            return name, picked
        node = next((other for other, _ in node.next_functions if other is not None), None)
    return "", picked


def constant_factor(node: Any, torch: Any) -> float:
    """The product of constants that the loss was multiplied with, last of all."""
    factor = 1.0
    for _ in range(8):
        inputs = [other for other, _ in node.next_functions if other is not None]
        name = bare(node)
        if name in ("Mul", "Div") and len(inputs) == 1:
            other = getattr(node, "_saved_other", None)
            if other is None or (isinstance(other, torch.Tensor) and other.numel() != 1):
                break
            factor = factor * float(other) if name == "Mul" else factor / float(other)
        elif name not in ("ToCopy", "View", "Alias", "Clone"):
            break
        node = inputs[0] if inputs else None
        if node is None:
            break
    return factor


def summed(start: Any) -> float | None:
    """How many values a loss is the sum of, at most, above the results of models; 1 for a mean.

    None where that is not known: in a large graph, or for dot products and norms.
    """
    most, stack, best = 1.0, [(start, 1.0, "")], {start: 1.0}
    for _ in range(MAX_TOP_NODES):
        if not stack:
            return most
        node, count, above = stack.pop()
        name = bare(node)
        if name in HIDDEN_SUMS:
            return None
        if name == "Sum":
            into = math.prod(int(size) for size in node._saved_self_sym_sizes)
            count *= max(1.0, into / math.prod(shape_of(node)))
        elif getattr(node, "_saved_reduction", 1) == SUMMED:
            of = node._saved_target if name.startswith("NllLoss") else node._saved_self
            count *= of.numel()
        elif name == "Add" != above:
            count *= alike_terms(node)
        most = max(most, count)
        if node.metadata.get(MARK) is not None:
            continue
        for other, _ in node.next_functions:
            if other is not None and count > best.get(other, 0.0):
                best[other] = count
                stack.append((other, count, name))
    return None


def balance(start: Any, torch: Any) -> list[float] | None:
    """Where one term of a loss is a mean over a batch and another one a sum: rows, and its factor.

    The sum is of what models returned; a factor of 1 / rows makes it a mean over the samples.
    """
    stack = [(start, 1.0)]
    means: set[float] = set()
    sums: list[tuple[float, float]] = []
    for _ in range(MAX_TERMS):
        if not stack:
            break
        node, factor = stack.pop()
        name, live = bare(node), [other for other, _ in node.next_functions if other is not None]
        reduction = getattr(node, "_saved_reduction", None)
        rows = shape_of(live[0])[:1] if live else []
        if name == "Mean" or reduction == MEANT:
            means.update(rows)
        elif (name == "Sum" and not shape_of(node)) or reduction == SUMMED:
            if rows and rows[0] > 1 and reaches_a_model(live[0]):
                sums.append((rows[0], factor))
        elif name in ("Add", "Sub", "Neg") or name in SKIPPED:
            stack += [(other, factor) for other in live]
        elif name in ("Mul", "Div") and len(live) == 1:
            other = getattr(node, "_saved_other", None)
            other = getattr(node, "_saved_self", None) if other is None else other
            if (isinstance(other, torch.Tensor) and other.numel() == 1) or isinstance(
                other, (int, float)
            ):
                value = abs(float(other))
            else:
                continue
            stack.append((live[0], factor * value if name == "Mul" else factor / (value or 1.0)))
    found = [(rows, factor) for rows, factor in sums if rows in means]
    if not found:
        return None
    heaviest = max(found, key=lambda one: one[0] * one[1])
    return list(heaviest)


def reaches_a_model(start: Any) -> bool:
    """Whether a node is computed from what a model returned, and not by way of a softmax.

    Divergences of soft targets are weighted with the square of a temperature, whatever the batch.
    """
    queue = [start]
    for node in queue:
        if bare(node) in ("LogSoftmax", "Softmax"):
            return False
        if node.metadata.get(MARK) is not None:
            return True
        if len(queue) < MAX_TERMS:
            queue += [other for other, _ in node.next_functions if other is not None]
    return False


def alike_terms(node: Any) -> int:
    """How many terms of one kind a chain of additions has, as where a loop adds samples' losses."""
    stack, kinds = [node], {"": 1}
    while stack and sum(kinds.values()) < MAX_TOP_NODES:
        for other, _ in stack.pop().next_functions:
            if other is not None and bare(other) == "Add":
                stack.append(other)
            elif other is not None:
                kinds[bare(other)] = kinds.get(bare(other), 0) + 1
    most = max(kinds.values())
    return most if most >= MANY_TERMS else 1


def walk(start: Any, torch: Any, held: set[int]) -> dict[str, Any]:
    """The graph below a loss: its parameters, its forward passes, what enters its losses."""
    seen, stack = {start}, [start]
    leaves: list[int] = []
    forwards: set[int] = set()
    pairs: set[str] = set()
    while stack and len(seen) < MAX_NODES:
        node = stack.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            number = SEEN.numbers.of(leaf)
            if isinstance(leaf, torch.nn.Parameter) or number in held:
                leaves.append(number)
                note_parameter(number, leaf)
            continue
        name = bare(node)
        if name in ("LogSoftmax", "NllLoss", "NllLoss2D", "BinaryCrossEntropyWithLogits"):
            under = below(node)
            pairs.add(f"{name}<{bare(under) if under is not None else ''}")
        mark = node.metadata.get(MARK)
        if mark is not None:
            forwards.add(mark)
        for other, _ in node.next_functions:
            if other is not None and other not in seen:
                seen.add(other)
                stack.append(other)
    key = tuple(sorted(leaves))
    if key not in SEEN.leaf_index:
        SEEN.leaf_index[key] = len(SEEN.leaf_sets)
        SEEN.leaf_sets.append(list(key))
    return {
        "leaves": SEEN.leaf_index[key],
        "forwards": sorted(forwards),
        "pairs": sorted(pairs),
        "nodes": len(seen),
    }


def joined(start: Any) -> list[list[int]]:
    """The forward passes whose results are compared: below one value that is no single number.

    Losses that were computed apart and are added are single numbers.
    """
    stack, found, seen = [start], [], 0
    while stack and seen < MAX_TOP_NODES:
        node, seen = stack.pop(), seen + 1
        below_it = [other for other, _ in node.next_functions if other is not None]
        if bare(node) in ("Add", "Sub", "Mul", "Div", "Neg", *SKIPPED) and not shape_of(node):
            stack += below_it
            continue
        marks: set[int] = set()
        queue = below_it
        known = set(queue)
        for other in queue:
            mark = other.metadata.get(MARK)
            if mark is not None:
                marks.add(mark)
            elif len(queue) < MAX_TOP_NODES:
                more = [n for n, _ in other.next_functions if n is not None and n not in known]
                known.update(more)
                queue += more
        if len(marks) > 1:
            found.append(sorted(marks))
    return found


def leaf_tensors(start: Any) -> list[Any]:
    """The tensors that gradients of a loss are left in, parameters or not."""
    seen, stack, found = {start}, [start], []
    while stack and len(seen) < MAX_NODES:
        node = stack.pop()
        if getattr(node, "variable", None) is not None:
            found.append(node.variable)
        for other, _ in node.next_functions:
            if other is not None and other not in seen:
                seen.add(other)
                stack.append(other)
    return found


def note_parameter(number: int, parameter: Any) -> dict[str, Any]:
    """The entry of a parameter."""
    entry = SEEN.parameters.get(number)
    if entry is None:
        entry = {"size": parameter.numel(), "name": "", "looked": 0, "none": 0, "zero": 0}
        SEEN.parameters[number] = entry
    return entry


def spread(start: Any, torch: Any) -> list[list[Any]]:
    """Where a prediction is broadcast against targets: `[N, 1]` or `[N]` that becomes `[N, N]`.

    Only above the results of models, and where the other operand is no prediction itself.
    """
    seen, queue, found = {start}, [start], []
    for node in queue:  # the nearest first: a sum over many steps has them far below
        if len(seen) > MAX_TOP_NODES:
            break
        inputs = [other for other, _ in node.next_functions if other is not None]
        if node.metadata.get(MARK) is not None:
            continue
        if bare(node) in ("Sub", "Mul", "Add", "Div") and len(inputs) == 1:
            sizes = [shape_of(inputs[0]), shape_of(node)]
            if sizes[0] in (sizes[1][:1], [*sizes[1][:1], 1]):
                if len(sizes[1]) == 2 and sizes[1][0] == sizes[1][1] > 1:
                    found.append(sizes)
        for other in inputs:
            if other not in seen:
                seen.add(other)
                queue.append(other)
    return found


def shape_of(node: Any) -> list[int]:
    """The shape of what a node computed; empty where this torch does not tell."""
    known = getattr(node, "_input_metadata", None)
    return [int(size) for size in known[0].shape] if known else []


def same_up_to_a_factor(node: Any, wanted: Any) -> bool:
    """Whether a node is another one, or that one times constants."""
    for _ in range(8):
        if node is wanted:
            return True
        inputs = [other for other, _ in node.next_functions if other is not None]
        if bare(node) not in ("Mul", "Div", "ToCopy", "Clone", "View") or len(inputs) != 1:
            return False
        node = inputs[0]
    return False


def is_negative(tensor: Any) -> bool:
    """Whether a tensor is what `-x` returned a moment ago."""
    return tensor.data_ptr() in SEEN.negatives
