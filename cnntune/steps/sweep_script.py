"""The learning rates of `lr-sweep` in a script's own loop: `lr-sweep -- COMMAND`.

The verdicts are those of a recipe. They need losses that measure progress on the same data: where
the loop shows that its losses do not, there are curves and no verdict.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cnntune.findings import Finding
from cnntune.script import sweep as loops
from cnntune.script.sweep import Asked, Ready, Tried
from cnntune.steps import lr_sweep
from cnntune.steps.lr_sweep import ITERATIONS, MIN_LOSSES, PATIENCE, RateCurve, Sweep, Try

MOST = 0.5  # of the steps, or of the inputs of a step
MIN_DRAWS = 3  # steps with draws that depend on the network; a text that is shown has fewer


class NoVerdictError(Exception):
    """The losses of this loop are no measure of progress; the text says why."""


@dataclass
class Seen:
    """What was measured."""

    tried: list[Tried] = field(default_factory=list)
    curves: list[RateCurve] = field(default_factory=list)
    is_short: bool = False  # the script ends before the first number of iterations


@dataclass(frozen=True)
class ScriptSweep:
    """The result of a sweep, and how it was made."""

    result: Sweep
    ready: Ready
    same_weights: bool
    steps: int  # at one learning rate, at most
    ended: bool  # the script ended by itself before that
    warm_up: bool  # of the script, left out


def sweep(loop: loops.Sweep, heard: Callable[[Tried], None]) -> ScriptSweep:
    """Try learning rates in the loop until the best is known; `heard` gets each at once.

    Raises:
        NotReadyError: where the script never comes to a first step.
        ScriptError: where its process ends without a step, or the learning rate cannot be set.
    """
    seen = Seen()
    tried_all = functools.partial(_tried_all, loop, seen, heard)
    try:
        for curve in lr_sweep.measured(tried_all, _lengths(seen)):
            seen.curves.append(curve)
        result = lr_sweep.judge(seen.curves)
        verdict = _in_a_script(result, loop, len(result.curves[-1].losses))
    except NoVerdictError as reason:
        own = sorted((c for c in seen.curves if c.repeat == 0), key=lambda curve: -curve.lr)
        advice = "judge the curves by what the script itself measures"
        verdict = Sweep(own, {}, None, None, [Finding("lr-sweep", "info", str(reason), advice)])
    assert loop.ready is not None
    return ScriptSweep(
        verdict,
        loop.ready,
        loops.same_start(seen.tried, loop.ready.method),
        max(len(curve.losses) for curve in seen.curves),
        seen.is_short,
        any(tried.warm_up for tried in seen.tried),
    )


def _lengths(seen: Seen) -> Iterator[int]:
    """Numbers of iterations; more are of no use where the script ends before the first."""
    yield ITERATIONS
    if not seen.is_short:
        yield PATIENCE


def _tried_all(
    loop: loops.Sweep, seen: Seen, heard: Callable[[Tried], None], tries: Sequence[Try]
) -> list[RateCurve]:
    """Several learning rates; where the losses tell nothing, all curves are kept and it ends."""
    tried = []
    for one in loop.tried([Asked(*values) for values in tries]):
        heard(one)
        tried.append(one)
    is_first = not seen.tried
    seen.tried += tried
    curves = as_curves(tried)
    finite = [one for one in tried if one.losses and math.isfinite(one.losses[-1])]
    seen.is_short = seen.is_short or any(one.end == "ended" for one in finite)
    if is_first:
        reason = why_no_verdict(loop, tried, curves)
        if reason:
            seen.curves += curves
            raise NoVerdictError(reason)
    return curves


def as_curves(tried: Sequence[Tried]) -> list[RateCurve]:
    """Curves of one length: a script that ends earlier at one learning rate gave it up.

    Where the time was over at some learning rate, all are as long as its losses.
    """
    longest = max(len(one.losses) for one in tried)
    gave_up = [
        one
        for one in tried
        if len(one.losses) < longest and (one.end == "ended" or one.end.startswith("error"))
    ]
    complete = [one for one in tried if one not in gave_up and math.isfinite(sum(one.losses))]
    common = min((len(one.losses) for one in complete), default=longest)
    curves = []
    for one in tried:
        losses = list(one.losses) or [math.nan]
        if one in gave_up:
            losses.append(math.nan)
        elif one in complete:
            losses = losses[:common]
        asked = one.asked
        curves.append(RateCurve(asked.lr, losses, asked.repeat, asked.iterations, one.seconds))
    return curves


def why_no_verdict(
    loop: loops.Sweep, tried: Sequence[Tried], curves: Sequence[RateCurve]
) -> str | None:
    """Why the losses of a loop are no measure of progress; None where they are."""
    assert loop.ready is not None
    others = max(one.own_losses for one in tried)
    if others:
        count = "another optimizer steps" if others == 1 else f"{others} other optimizers step"
        return (
            f"no verdict: {count} on a loss of its own, as in a GAN, where what one gains the other"
            f" loses; swept was {loop.ready.optimizer} ({loop.ready.at})"
        )
    first = curves[0].first
    if first <= 0:
        return f"no verdict: the loss begins at {first:.3g}, so that no share of it can be judged"
    steps = max(len(curve.losses) for curve in curves)
    if steps < MIN_LOSSES:
        return (
            f"no verdict: the script ended after {steps} steps, and {MIN_LOSSES} are needed: let it"
            " train longer, such as for more epochs"
        )
    if loop.ready.method != loops.REWIND and _depends_on_network(loop, tried):
        return (
            "no verdict: the network decides what is drawn or comes next, as in reinforcement"
            " learning, so that the losses are of other data at each learning rate"
        )
    return None


def _depends_on_network(loop: loops.Sweep, tried: Sequence[Tried]) -> bool:
    """Whether other weights lead to other data, although all random numbers are the same.

    Data that differ between two runs at one learning rate too come from random numbers that no
    seed decides.
    """
    lowest = tried[-1]
    if not any(has_other_data(lowest, one) for one in tried[:-1]):
        return False
    (again,) = loop.tried([replace(lowest.asked)])
    return not has_other_data(lowest, again)


def has_other_data(one: Tried, other: Tried) -> bool:
    """Whether most steps saw other data, or draws from other probabilities.

    Data are the batches of loaders; where there is none, the inputs of networks.
    """
    steps = range(1, min(len(one.losses), len(other.losses)))
    if any(one.batches[1:]):
        differing = sum(one.batches[step] != other.batches[step] for step in steps)
    else:
        differing = sum(_differ(one.inputs[step], other.inputs[step]) for step in steps)
    drawn = [step for step in steps if one.draws[step] and other.draws[step]]
    drawn_otherwise = sum(one.draws[step] != other.draws[step] for step in drawn)
    return differing > MOST * len(steps) or drawn_otherwise > max(MOST * len(drawn), MIN_DRAWS - 1)


def _differ(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether most inputs of a step are others."""
    same = len({*one} & {*other})
    return same < (1 - MOST) * max(len({*one}), len({*other}))


def _in_a_script(result: Sweep, loop: loops.Sweep, steps: int) -> Sweep:
    """The result with the script's line, and advice for a script."""
    assert loop.ready is not None
    ready, (finding,) = loop.ready, result.findings
    if result.lr is None:
        advice = "the learning rate is not the cause; run `cnntune sanity -- COMMAND`"
    else:
        advice = f"set the learning rate of {ready.optimizer} to {result.lr:.2g}"
        if ready.lr:
            advice += f"; the script has {ready.lr:.2g}"
    evidence = finding.evidence.replace(f"in {ITERATIONS} steps", f"in {steps} steps")
    found = replace(finding, where=ready.at, evidence=evidence, advice=advice)
    return replace(result, findings=[found])
