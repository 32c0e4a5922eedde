"""In which direction a loss moves its terms: the autograd graph above the results of models.

Like the observer it runs in the Python of the script, and needs the standard library and `torch`
alone.
"""

from __future__ import annotations

from typing import Any

MAX_NODES = 400
SAME = (  # a value goes through as it is, or as part of a sum
    "Mean", "Sum", "ToCopy", "View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze",
    "Unsqueeze", "Expand", "Permute", "T", "Transpose", "Clone", "Alias", "Stack", "Cat", "Select",
    "Slice", "Index", "Add", "MaskedSelect", "Flatten", "Split", "Unbind", "CopySlices",
    "Nansum", "MaskedFill",
)  # fmt: skip
RISING = (  # more of the one is more of the other
    "Exp", "Log", "Log1P", "Sigmoid", "LogSigmoid", "Softplus", "Relu", "Tanh", "Minimum",
    "Maximum", "Clamp", "ClampMin", "ClampMax", "Where", "Sqrt", "Cumsum",
)  # fmt: skip
UNBOUNDED = {  # terms without an upper end: taken away from a loss, it has no lower one
    "NllLoss": "a cross-entropy",
    "NllLoss2D": "a cross-entropy",
    "BinaryCrossEntropy": "a binary cross-entropy",
    "BinaryCrossEntropyWithLogits": "a binary cross-entropy",
    "MseLoss": "a squared error",
    "SmoothL1Loss": "an absolute error",
    "HuberLoss": "an absolute error",
    "L1Loss": "an absolute error",
    "CtcLoss": "a CTC loss",
    "Exp": "an exponential",
    "Pow": "a square",
}
LOG_PROBABILITY = "cnntune log-probability"  # key in a node's metadata


class Part:
    """A node with the sign of its part in the loss, and what it was multiplied with."""

    def __init__(self, node: Any, sign: int, factor: float, weight: str, linear: bool) -> None:
        self.node, self.sign, self.factor = node, sign, factor
        self.weight = weight  # of a tensor: positive, negative or mixed; empty for none
        self.linear = linear  # nothing but sums and products with numbers is above it

    def under(self, node: Any, sign: int = 1) -> Part:
        """A node that this one is computed from."""
        return Part(node, sign * self.sign, self.factor, self.weight, self.linear)


def terms(start: Any, name_of: Any, mark: str, negated: Any, torch: Any) -> list[list[Any]]:
    """The terms of a loss that are known: what it is, sign of its part, factor, weight, source.

    A sign of -1 means that the loss falls as the term rises. `mark` is the key of the results of
    models, below which nothing is followed; `negated` tells whether a tensor is the negative of
    another one.
    """
    stack = [Part(start, 1, 1.0, "", True)]
    seen: set[tuple[Any, int]] = set()
    found: list[list[Any]] = []
    while stack and len(seen) < MAX_NODES:
        part = stack.pop()
        node, name = part.node, name_of(part.node)
        if (node, part.sign) in seen:
            continue
        seen.add((node, part.sign))
        source = node.metadata.get(LOG_PROBABILITY)
        if source is not None:
            found.append(["log-probability", part.sign, part.factor, part.weight, source])
            continue
        if part.linear and name in UNBOUNDED and grows(node, name, name_of, torch):
            found.append([UNBOUNDED[name], part.sign, part.factor, part.weight, ""])
        if node.metadata.get(mark) is None:
            stack += below(part, name, negated, torch)
    return found


def below(part: Part, name: str, negated: Any, torch: Any) -> list[Part]:
    """What a node was computed from, each with its sign; nothing where that is not known."""
    inputs = [other for other, _ in part.node.next_functions]
    live = [other for other in inputs if other is not None]
    if name in SAME:
        return [part.under(other) for other in live]
    if name in RISING:
        found = [part.under(other) for other in live]
        for one in found:
            one.linear = False
        return found
    if name == "Neg":
        return [part.under(other, -1) for other in live]
    if name in ("Sub", "Rsub"):
        signs = (1, -1) if name == "Sub" else (-1, 1)
        return [part.under(o, s) for o, s in zip(inputs, signs) if o is not None]
    if name in ("Mul", "Div") and len(live) == 1 and (name == "Mul" or inputs[0] is not None):
        return times(part.under(live[0]), saved_factor(part.node, inputs, torch), negated)
    return []


def times(part: Part, factor: Any, negated: Any) -> list[Part]:
    """A part that is multiplied with a number, or with a tensor of them."""
    if factor is None or not factor.numel():
        return []
    if factor.numel() == 1:
        part.factor *= float(factor)
        return [part]
    low, high = float(factor.min()), float(factor.max())
    part.weight = "positive" if low >= 0 else "negative" if high <= 0 else "mixed"
    if negated(factor):
        part.sign = -part.sign
        part.weight = {"positive": "negative", "negative": "positive"}.get(part.weight, "mixed")
    return [part]


def saved_factor(node: Any, inputs: Any, torch: Any) -> Any:
    """The number or tensor that a product or quotient has beside what is differentiated."""
    key = "_saved_other" if inputs and inputs[0] is not None else "_saved_self"
    try:
        value = getattr(node, key, None)
    except RuntimeError:  # freed
        return None
    if value is None:
        return None
    return value.detach() if isinstance(value, torch.Tensor) else torch.tensor(float(value))


def grows(node: Any, name: str, name_of: Any, torch: Any) -> bool:
    """Whether a term has no upper end: an even power, or an exponential of no negative value."""
    if name == "Pow":
        exponent = getattr(node, "_saved_exponent", None)
        return isinstance(exponent, (int, float)) and exponent > 0 and exponent % 2 == 0
    if name != "Exp":
        return True
    for _ in range(8):
        inputs = [other for other, _ in node.next_functions]
        node = next((other for other in inputs if other is not None), None)
        name = name_of(node) if node is not None else ""
        if name in ("Neg", "Rsub", "LogSoftmax"):
            return False
        if name in ("Mul", "Div"):
            factor = saved_factor(node, [other for other, _ in node.next_functions], torch)
            if factor is None or bool((factor < 0).any()):
                return False
        elif name not in SAME:
            return True
    return True
