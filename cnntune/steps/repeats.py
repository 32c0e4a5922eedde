"""Repeats of a command: whether they have fresh seeds, or are the same run again.

A recipe trains with the seed that it is given. A command may have no placeholder for one, or a
script that ignores it; its repeats then say nothing of how far another seed would move a result.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from cnntune.config.command import SEED, CommandRecipe
from cnntune.config.recipe import Recipe
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.runs.run import Run
from cnntune.steps.winner import Candidate
from cnntune.texts import counted

MIN_SAME = 2  # repeats that are equal; a single one of few images may be so by chance


def has_fresh_seeds(recipe: Recipe) -> bool:
    """Whether repeats get another seed than their trial."""
    return not isinstance(recipe, CommandRecipe) or SEED in recipe.placeholders


def how_often(recipe: Recipe, seeds: int) -> str:
    """How trials are repeated, in words: `again with 3 fresh seeds each`."""
    if has_fresh_seeds(recipe):
        return f"again with {counted(seeds, 'fresh seed')} each"
    return f"again {counted(seeds, 'time')} each"


def notes(recipe: Recipe, seeds: int) -> list[Finding]:
    """What to know before the repeats of a command that has no placeholder for a seed."""
    if not seeds or has_fresh_seeds(recipe):
        return []
    return [
        Finding(
            "repeats",
            "warn",
            f"the command has no {{{SEED}}}: the best trials are run again {counted(seeds, 'time')}"
            " with the seeds that the script sets itself, if any, and not with fresh ones",
            "search again in a new study: --study NAME, and add a seed to the command, such as"
            f" --seed {{{SEED}}}; or leave the repeats out: --seeds 0",
        )
    ]


def findings(
    recipe: Recipe, candidates: Sequence[Candidate], judged: Sequence[Finding]
) -> list[Finding]:
    """`judged`, what was found of the candidates, in words that fit the repeats of a command."""
    if not isinstance(recipe, CommandRecipe):
        return list(judged)
    if are_same_runs(candidates):
        return [_same_runs(recipe, candidates), *(f for f in judged if f.rule not in BY_SPREAD)]
    if has_fresh_seeds(recipe):
        return list(judged)
    return [replace(one, evidence=_of_repeats(one.evidence)) for one in judged]


BY_SPREAD = ("winner", "tie")  # findings that compare spreads over seeds


def are_same_runs(candidates: Sequence[Candidate]) -> bool:
    """Whether every repeat that was completed has the curve of its trial, to the last bit."""
    same = 0
    for candidate in candidates:
        own = _curve(candidate.rival.trial.run)
        for _, run in candidate.rival.repeats(candidate.asked):
            if (run.path / "summary.json").exists():
                if not own or _curve(run) != own:
                    return False
                same += 1
    return same >= MIN_SAME


def _curve(run: Run) -> list[str]:
    """The rows of a run, their seconds left out; `repr` has all bits of a number, also of NaN."""
    try:
        return [repr(replace(row, seconds=0.0)) for row in run.rows()]
    except (OSError, StudyError):
        return []


def _same_runs(recipe: CommandRecipe, candidates: Sequence[Candidate]) -> Finding:
    best = candidates[0]
    second = candidates[1] if candidates[1:] else None
    after = f"; next is {second.name} with {second.shown(second.selected_acc)}" if second else ""
    why = "the command ignores its seed" if has_fresh_seeds(recipe) else "the script sets its seed"
    return Finding(
        "repeats",
        "warn",
        f"each repeat equals its trial to the last bit: {why}, and nothing is known of luck;"
        f" {best.name} has {best.shown(best.selected_acc)}{after}",
        f"let the script set its seed from {{{SEED}}}, and search again in a new study",
    )


def _of_repeats(text: str) -> str:
    return re.sub(r"\b(?:fresh )?seed(s?)\b", r"repeat\1", text)
