"""What a search says beyond its best trial: failures, edges, regions, and what more would bring."""

from collections.abc import Sequence

from cnntune.config.recipe import Recipe
from cnntune.config.space import Range, Space, edges, narrow, toml
from cnntune.findings import Finding
from cnntune.runs.chance import Chance
from cnntune.study.importance import LEAST_TRIALS, Importance
from cnntune.study.ledger import Trial, best_of, ranked
from cnntune.texts import counted
from cnntune.workers.processes import call

TRACEBACK = "Traceback"  # begins an error of Python's, whose last line says what it was
STRONG_SHARE = 0.2  # of the trials count as strong; with noise of a point more would not stand out
STRONG_TRIALS = 3  # at least: one trial would narrow every range to a point
REGION_TRIALS = 15  # so that a region rests on three strong trials among others
REGION_SHARE = 0.5  # of a range: strong trials that span less of it show a region
NAMED_TRIALS = 5  # of a list: more would hide the rest of the line
WORTH_TRIALS = 10  # below, the best of so few says nothing of the best of more


def count(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials stand how; each is counted once."""
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
    """All that trials of `recipe` say but for the importance; the edges are those of `space`."""
    if nothing := nothing_learned(trials):  # then what differs between the trials is luck
        return [*file_findings(trials), *trial_findings(trials), *nothing]
    return [
        *file_findings(trials),
        *trial_findings(trials),
        *edge_findings(recipe.model_copy(update={"space": space}), bests_of(trials)),
        *region_findings(recipe, trials),
        *worth_findings(trials),
    ]


def importance_findings(trials: Sequence[Trial], importance: Importance | None) -> list[Finding]:
    """Why there is no importance, where there is none."""
    ended = [trial for trial in trials if trial.status in ("complete", "pruned", "diverged")]
    judged = sum(trial.status == "diverged" or bool(trial.curve) for trial in ended)
    if importance or not best_of(trials) or nothing_learned(trials):
        return []
    if judged >= LEAST_TRIALS:
        return [Finding("importance", "info", "all trials came to the same accuracy")]
    return [
        Finding(
            "importance",
            "info",
            f"{counted(judged, 'trial')} {'is' if judged == 1 else 'are'} too few to say which key"
            " matters",
            f"search on with --budget {max(2 * judged, LEAST_TRIALS)}",
        )
    ]


def trial_findings(trials: Sequence[Trial]) -> list[Finding]:
    """Trials that failed or diverged, and a study in which nothing came of any."""
    counts = count(trials)
    findings = []
    if counts["failed"]:
        error = next(t.summary.get("error", "") for t in trials if t.status == "failed")
        lines = error.strip().splitlines() or ["no message"]
        cause = lines[-1] if error.startswith(TRACEBACK) else lines[0]
        none_complete = not best_of(trials)
        findings.append(
            Finding(
                "failed-trials",
                "fail" if none_complete else "warn",
                f"{counts['failed']} of {counted(len(trials), 'trial')} failed, the first with:"
                f" {cause}",
                "the whole message is in the trial's summary.json",
            )
        )
    if counts["diverged"]:
        rates = [
            t.values["train.lr"]
            for t in trials
            if t.status == "diverged" and "train.lr" in t.values
        ]
        at = f", from train.lr {min(map(float, rates)):.2g} on" if rates else ""
        findings.append(
            Finding(
                "diverged-trials",
                "fail" if counts["diverged"] == len(trials) else "info",
                f"{counts['diverged']} of {counted(len(trials), 'trial')} diverged{at}",
                "run `cnntune lr-sweep` for a range of rates that do not",
            )
        )
    return findings


def file_findings(trials: Sequence[Trial]) -> list[Finding]:
    """Files of ended trials that are gone or damaged, by file: what is known comes from elsewhere.

    A trial without its curve is left out of what compares curves.
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
            f"{evidence} {'are' if len(lacking) > 1 else 'is'} gone or damaged; accuracies are"
            " those of study.db, and trials without a curve are left out where curves are compared",
            "restore them from a copy; without its config.json a trial cannot be trained by path",
            where=str(trials[0].run.path.parent),
            measured=len({number for numbers in lacking.values() for number in numbers}),
        )
    ]


def numbered(numbers: Sequence[int]) -> str:
    """`trial 3`, or `trials 3, 5 and 7 more` of which the first few are named."""
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    shown = ", ".join(map(str, numbers[:NAMED_TRIALS]))
    more = len(numbers) - NAMED_TRIALS
    return f"trials {shown}{f' and {more} more' if more > 0 else ''}"


def nothing_learned(trials: Sequence[Trial]) -> list[Finding]:
    """A best trial that is no better than guessing is no result: all trials failed to learn.

    Guessing is answering the largest class each time. Studies of old versions do not tell what that
    gives, and nothing is said of them.
    """
    best = best_of(trials)
    known = (Chance.in_summary(trial.summary) for trial in trials)
    chance = next((found for found in known if found), None)
    if best is None or chance is None or not chance.tells or chance.beaten_by(best.val_acc):
        return []
    return [
        Finding(
            "nothing-learned",
            "fail",
            f"the best of {counted(len(trials), 'trial')} has a validation accuracy of"
            f" {best.val_acc:.3g} and a loss of {best.summary['val_loss']:.4g}; guessing gives"
            f" {chance.acc:.3g} and {chance.loss:.4g}",
            "run `cnntune sanity`, then `cnntune lr-sweep` for a range of train.lr that lowers the"
            " loss; search that, or with more --epochs, in a study of its own: --study NAME",
            measured=best.val_acc,
            expected=chance.acc,
        )
    ]


def bests_of(trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials that share the highest validation accuracy, the lowest loss first."""
    best = best_of(trials)
    same = [t for t in trials if best and t.status == "complete" and t.val_acc == best.val_acc]
    return sorted(same, key=lambda trial: float(trial.summary["val_loss"]))


def edge_findings(recipe: Recipe, bests: Sequence[Trial]) -> list[Finding]:
    """The best value at the end of a range: what lies beyond may be better (tuning playbook).

    Where several trials are the best, all of them have to lie there. Ends beyond which the recipe
    allows nothing, such as a dropout of 0, are no edges.
    """
    found = [{(e.key, e.side): e for e in edges(recipe.space, trial.values)} for trial in bests]
    shared = [e for place, e in found[0].items() if all(place in o for o in found)] if found else []
    return [
        Finding(
            "edge",
            "warn",
            f"the best {edge.key}, {edge.value:.3g}, lies {edge.place} its range"
            f" {recipe.space[edge.key]}",
            "widen it in a study of its own: --study NAME --set"
            f" 'space.{edge.key}={toml(edge.wider)}'",
            where=edge.key,
            measured=edge.value,
        )
        for edge in shared
        if call("cnntune.training.open_recipe:allows", recipe, edge.key, edge.beyond)
    ]


def region_findings(recipe: Recipe, trials: Sequence[Trial]) -> list[Finding]:
    """Where the strong trials lie, for each range of which they span less than half.

    The next search is worth most there (CS231n step 5).
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
            text = f"the best {len(found)} trials have {key} within {region}, of {whole}"
            advice = f"--set 'space.{key}={toml(region)}'"
            findings.append(Finding("region", "info", text, advice, where=key, measured=span))
    return findings


def worth_findings(trials: Sequence[Trial]) -> list[Finding]:
    """What as many trials again are worth: the expected best of 2n draws less that of n.

    The expectation is what a bootstrap of the n accuracies comes to (Dodge et al. 2019).
    """
    accs = sorted(trial.val_acc for trial in ranked(trials))
    if len(accs) < WORTH_TRIALS:
        return []
    gain = expected_best(accs, 2 * len(accs)) - expected_best(accs, len(accs))
    text = f"{len(accs)} more trials like these are worth about {100 * gain:.2f} points of accuracy"
    return [Finding("worth", "info", text, measured=gain)]


def expected_best(accs: Sequence[float], draws: int) -> float:
    """The mean of the best of so many draws, with replacement, from sorted `accs`."""
    count = len(accs)
    return sum(
        acc * (((place + 1) / count) ** draws - (place / count) ** draws)
        for place, acc in enumerate(accs)
    )
