"""Findings of a search: failures, edges, regions, and what the last trials were worth."""

import math
from collections.abc import Sequence

from cnntune.config.command import CommandRecipe
from cnntune.config.recipe import Recipe
from cnntune.config.space import Edge, Range, Space, edges, narrow, toml
from cnntune.errors import UserCodeError
from cnntune.findings import Finding
from cnntune.study.importance import MIN_TRIALS, Importance
from cnntune.study.noise import image_error
from cnntune.study.trial import Trial, best_of, ranked
from cnntune.texts import counted
from cnntune.workers.processes import call

STRONG_SHARE = 0.2  # of the trials; accuracies vary by a point, so more would not stand out
STRONG_TRIALS = 3  # at least: a single trial would narrow every range to a point
REGION_TRIALS = 15  # at least, so that three strong trials are compared with twelve others
REGION_SHARE = 0.5  # of a range: strong trials that span less of it form a region
LEARNING_SAMPLERS = ("tpe", "gp")  # draw by earlier results, so that the order of trials counts
NAMED_TRIALS = 5  # in a line; more would hide the rest of it
WORTH_TRIALS = 10  # with fewer, one good trial decides what half of them were worth


def count(trials: Sequence[Trial]) -> dict[str, int]:
    """The number of trials by status."""
    statuses = [trial.status for trial in trials]
    return {
        "complete": statuses.count("complete"),
        "pruned": statuses.count("pruned"),
        "failed": statuses.count("failed"),
        "running": statuses.count("running"),
        "diverged": statuses.count("diverged"),
    }


def strong(trials: Sequence[Trial]) -> list[Trial]:
    """The best fifth of the trials, pruned ones included, and at least three."""
    found = ranked(trials)
    return found[: max(STRONG_TRIALS, round(len(found) * STRONG_SHARE))]


def findings_of(recipe: Recipe, trials: Sequence[Trial], space: Space) -> list[Finding]:
    """All findings on trials of `recipe`, except the importance; edges are those of `space`."""
    if nothing := nothing_learned(trials):  # then trials differ by chance only
        return [*file_findings(trials), *trial_findings(trials), *nothing]
    return [
        *file_findings(trials),
        *trial_findings(trials),
        *edge_findings(recipe.model_copy(update={"space": space}), bests_of(trials)),
        *region_findings(recipe, trials),
        *worth_findings(trials, in_order=recipe.search.sampler in LEARNING_SAMPLERS),
    ]


def importance_findings(trials: Sequence[Trial], importance: Importance | None) -> list[Finding]:
    """Why there are no importances; empty if there are."""
    ended = [trial for trial in trials if trial.status in ("complete", "pruned", "diverged")]
    judged = sum(trial.status == "diverged" or bool(trial.curve) for trial in ended)
    if importance or not best_of(trials) or nothing_learned(trials):
        return []
    if judged >= MIN_TRIALS:
        return [Finding("importance", "info", "all trials have the same accuracy")]
    return [
        Finding(
            "importance",
            "info",
            f"{counted(judged, 'trial')} {'is' if judged == 1 else 'are'} too few to estimate"
            " importances",
            f"--budget {max(2 * judged, MIN_TRIALS)} continues the search",
        )
    ]


def trial_findings(trials: Sequence[Trial]) -> list[Finding]:
    """Trials that failed or diverged."""
    counts = count(trials)
    findings = []
    if counts["failed"]:
        failure = next(t.summary.error for t in trials if t.status == "failed")
        cause = failure.line if failure else "no message"
        again = "; the same command trains them again" if failure and failure.by_user else ""
        none_complete = not best_of(trials)
        findings.append(
            Finding(
                "failed-trials",
                "fail" if none_complete else "warn",
                f"{counts['failed']} of {counted(len(trials), 'trial')} failed, the first with:"
                f" {cause}",
                f"see the full message in the trial's summary.json{again}",
            )
        )
    if counts["diverged"]:
        lrs = [
            t.values["train.lr"]
            for t in trials
            if t.status == "diverged" and "train.lr" in t.values
        ]
        at = f", all with train.lr >= {min(map(float, lrs)):.2g}" if lrs else ""
        findings.append(
            Finding(
                "diverged-trials",
                "fail" if counts["diverged"] == len(trials) else "info",
                f"{counts['diverged']} of {counted(len(trials), 'trial')} diverged{at}",
                "run `cnntune lr-sweep` for a range of stable learning rates",
            )
        )
    return findings


def refuse_failed(trials: Sequence[Trial]) -> None:
    """Raise the error of the first trial where all failed by the user's code or recipe.

    So `search` says what `train` says of the same mistake.

    Raises:
        UserCodeError: with the lines of the first error.
    """
    ended = [trial for trial in trials if trial.status != "running"]
    errors = [trial.summary.error for trial in ended if trial.summary.error]
    if not ended or len(errors) < len(ended) or not all(error.by_user for error in errors):
        return
    told = (
        f"{counted(len(ended), 'trial')} failed, the first with this error; once it is fixed, the"
        " same command trains them again"
    )
    raised = UserCodeError([*errors[0].message.splitlines(), told])
    raised.document = {"trials": count(trials), "best": None, "importance": {}}
    raise raised


def file_findings(trials: Sequence[Trial]) -> list[Finding]:
    """Files of ended trials that are missing or damaged.

    Their accuracies are those of study.db. Trials without a curve are left out of comparisons of
    curves.
    """
    lacking: dict[str, list[int]] = {}
    for trial in trials:
        for name in trial.missing:
            lacking.setdefault(name, []).append(trial.number)
    if not lacking:
        return []
    evidence = "; ".join(
        f"the {name} of {numbered(numbers)}" for name, numbers in sorted(lacking.items())
    )
    return [
        Finding(
            "missing-files",
            "warn",
            f"{evidence} {'are' if len(lacking) > 1 else 'is'} missing or damaged; accuracies are"
            " read from study.db, and comparisons of curves leave out trials without a curve",
            "restore them from a copy; a trial without config.json cannot be trained by its path",
            where=str(trials[0].run.path.parent),
            measured=len({number for numbers in lacking.values() for number in numbers}),
        )
    ]


def numbered(numbers: Sequence[int]) -> str:
    """`trial 3`, or `trials 1, 2, 3, 4, 5 and 7 more`."""
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    shown = ", ".join(map(str, numbers[:NAMED_TRIALS]))
    more = len(numbers) - NAMED_TRIALS
    return f"trials {shown}{f' and {more} more' if more > 0 else ''}"


def nothing_learned(trials: Sequence[Trial]) -> list[Finding]:
    """A finding if the best trial is not better than chance: no trial has learned anything.

    Chance is always predicting the largest class. Empty for studies of old versions, which do not
    record it.
    """
    best = best_of(trials)
    known = (trial.summary.chance for trial in trials)
    chance = next((found for found in known if found), None)
    if best is None or chance is None or not chance.tells or chance.beaten_by(best.val_acc):
        return []
    return [
        Finding(
            "nothing-learned",
            "fail",
            f"the best of {counted(len(trials), 'trial')} has a validation accuracy of"
            f" {best.val_acc:.3g} and a loss of {best.val_loss:.4g}; chance is"
            f" {chance.acc:.3g} and {chance.loss:.4g}",
            "run `cnntune sanity`, then `cnntune lr-sweep` for a range of train.lr that lowers the"
            " loss; search it, or with more --epochs, in a new study: --study NAME",
            measured=best.val_acc,
            expected=chance.acc,
        )
    ]


def bests_of(trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials with the highest validation accuracy, the lowest loss first."""
    best = best_of(trials)
    same = [t for t in trials if best and t.status == "complete" and t.score == best.score]
    return sorted(same, key=lambda trial: (math.isnan(trial.val_loss), trial.val_loss))


def edge_findings(recipe: Recipe, bests: Sequence[Trial]) -> list[Finding]:
    """Best values at the end of a range: values beyond it may be better (tuning playbook).

    If several trials are the best, all of them must be at the same end. Ends beyond which the
    recipe allows no value, such as a dropout of 0, do not count.
    """
    found = [{(e.key, e.side): e for e in edges(recipe.space, trial.values)} for trial in bests]
    shared = [e for end, e in found[0].items() if all(end in o for o in found)] if found else []
    return [
        Finding(
            "edge",
            "warn",
            f"the best {edge.key}, {edge.value:.3g}, is {edge.place} its range"
            f" {recipe.space[edge.key]}",
            "widen the range in a new study: --study NAME --set"
            f" 'space.{edge.key}={toml(edge.wider)}'",
            where=edge.key,
            measured=edge.value,
        )
        for edge in shared
        if _allows(recipe, edge)
    ]


def _allows(recipe: Recipe, edge: Edge) -> bool:
    """Whether the recipe allows the new end of the range; only torch knows what a network takes."""
    if isinstance(recipe, CommandRecipe):
        return recipe.allows(edge.key, edge.beyond)
    return bool(call("cnntune.training.open_recipe:allows", recipe, edge.key, edge.beyond))


def region_findings(recipe: Recipe, trials: Sequence[Trial]) -> list[Finding]:
    """Ranges of which the strong trials span less than half.

    The next search should be there (CS231n step 5).
    """
    found = strong(trials)
    if len(ranked(trials)) < REGION_TRIALS:
        return []
    around = narrow(recipe.space, [trial.values for trial in found])
    findings = []
    for key, region in around.items():
        whole = recipe.space[key]
        if not isinstance(whole, Range) or not isinstance(region, Range):
            continue
        span = whole.position(region.high) - whole.position(region.low)
        if span < REGION_SHARE:
            text = f"the best {len(found)} trials have {key} in {region}, a part of {whole}"
            advice = f"--set 'space.{key}={toml(region)}'"
            findings.append(Finding("region", "info", text, advice, where=key, measured=span))
    return findings


def worth_findings(trials: Sequence[Trial], *, in_order: bool = False) -> list[Finding]:
    """What the later half of the trials was worth, a fact about the past and no extrapolation.

    Random trials might have run in any order, so the gain is the mean over all orders; with
    `in_order` it is that of the order in which they ran. As many trials again usually gain less
    (benchmarks/search/worth_simulation.py). A diverged trial is one with an accuracy of 0.
    """
    ended = [t for t in trials if t.summary.val_acc is not None or t.status == "diverged"]
    ended = [t for t in ended if t.status in ("complete", "pruned", "diverged")]
    accs = [0.0 if t.status == "diverged" else t.val_acc for t in ended]
    if len(accs) < WORTH_TRIALS or max(accs) <= 0:
        return []
    half = len(accs) // 2
    gain = max(accs) - (max(accs[:-half]) if in_order else expected_best(accs, len(accs) - half))
    orders = "" if in_order else ", on average over all orders of them"
    text = (
        f"the last {half} of {len(accs)} trials raised the best accuracy by {100 * gain:.2f}"
        f" points{orders}; {len(accs)} more like these usually gain less"
    )
    images = next((t.summary.val_images for t in ended if t.summary.val_images), None)
    if images:
        error = image_error(max(accs), images)
        text += f" (standard error of an accuracy on {images:,} images: {100 * error:.2f})"
    return [Finding("worth", "info", text, measured=gain)]


def expected_best(accs: Sequence[float], draws: int) -> float:
    """The expected maximum of `draws` of the accuracies, drawn without replacement.

    The one of rank r is the best of C(r - 1, draws - 1) of the C(n, draws) samples. The result is
    an unbiased estimate of the expected best of `draws` new trials.
    """
    ordered = sorted(accs)
    share, expected = draws / len(ordered), 0.0  # of the samples that have this accuracy as best
    for rank in range(len(ordered), draws - 1, -1):
        expected += share * ordered[rank - 1]
        share *= (rank - draws) / max(1, rank - 1)
    return expected
