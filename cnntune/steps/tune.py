"""Lecture step 7: search, refine around the best, judge the curves, and refine again.

After a round its best trial and the best one before are trained again with the same fresh seeds.
The loop ends with the budget, or when that gain is within chance. Then the best three trials of all
rounds are trained again with fresh seeds.
"""

import math
import statistics
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from cnntune.config.recipe import Recipe
from cnntune.config.space import Range
from cnntune.errors import StudyError
from cnntune.findings import Finding, Severity
from cnntune.machine.clock import Deadline
from cnntune.runs.files import FORMAT
from cnntune.runs.study import Study
from cnntune.steps import refine, search
from cnntune.steps.budget import (
    COARSE_SHARE,
    MARGIN,
    MIN_BUDGET,
    MIN_RESERVE,
    MIN_TRIALS,
    ROUND_SHARE,
    ROUND_TIME,
    SEEDS,
    START_SECONDS,
    Budget,
)
from cnntune.steps.optimism import optimism_findings
from cnntune.steps.search_findings import file_findings, nothing_learned, refuse_failed
from cnntune.steps.winner import (
    CANDIDATES,
    Candidate,
    Rival,
    best_rivals,
    candidates,
    findings,
    ledgers,
    lost_rounds,
    paired_gains,
    pool,
    quantile,
    rounds,
    val_images,
    winner,
)
from cnntune.study.coordinator import run_trials
from cnntune.study.ledger import Ledger
from cnntune.study.trial import best_of, ranked
from cnntune.texts import counted
from cnntune.workers.capacity import Plan
from cnntune.workers.pool import Event

LONGER = 2  # factor on the epochs after a round in which nothing was learned
# One-sided quantile that a round's gain has to exceed. Not 95 %: the budget is given already, and a
# loop that stops too early wastes it. benchmarks/search/winner_error_rates.py has the error rates.
GOES_ON = 0.8
MIN_PAIRS = 2  # seeds; one difference has no spread


@dataclass(frozen=True)
class Phase:
    """A part of the loop: the runs about to be trained, the reasons, and the events of training.

    `done` of its `runs` are finished before it starts.
    """

    title: str
    recipe: Recipe
    runs: int
    done: int
    changes: list[Finding]
    events: Iterator[Event]


@dataclass
class Outcome:
    """The result of the loop; filled while it runs."""

    study: Study
    changes: list[Finding] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    val_images: int | None = None

    @property
    def winner(self) -> Path | None:
        """The `config.json` of the trial to train."""
        chosen = winner(self.candidates, val_images=self.val_images)
        return chosen.config if chosen else None


def tune(
    outcome: Outcome,
    recipe: Recipe,
    budget: Budget,
    *,
    plan: Plan,
    devices: Sequence[str],
    sweep: Callable[[Deadline], None] = lambda _: None,
) -> Iterator[Phase]:
    """Run the loop round by round; the study must be locked. `plan` holds workers and precision.

    The caller exhausts the events of a phase before requesting the next, and reads `outcome` at the
    end. A stopped loop resumes with its last round, at the size planned for it. Earlier rounds are
    not completed, since their results would no longer have an effect. If nothing was learned and no
    lr-sweep is stored, `sweep` is called to make one, within the deadline.

    Raises:
        StudyError: if the study has another recipe, or a round ended before its trials.
    """
    study = outcome.study
    outcome.findings += lost_rounds(study)
    ledger, notes = search.begin(study, recipe)
    _settle(ledger, plan)
    current = refine.unfinished(study)
    if not rounds(study):
        current = _search_round(ledger.reopened(), notes, budget)
    records = ledgers(study)
    waiting = _left_waiting(study, records)
    spent = False
    while True:
        limits = _with_reserve(budget, records, waiting, plan.workers)
        if current is not None:
            yield from _train(current, limits, records, plan=plan, devices=devices)
            if not _is_over(current.ledger, limits):
                outcome.findings.append(_cut(current, records))
                break
            _close(current)
            limits = _with_reserve(budget, records, waiting, plan.workers)
            if budget.paused:
                outcome.findings.append(_paused(records))
                break
        size = limits.round_trials(ROUND_SHARE, _used(records))
        reason = reason_to_stop(records)
        if reason is None and size:
            reason = yield from _gain(records, budget, limits, plan=plan, devices=devices)
            limits = _with_reserve(budget, records, waiting, plan.workers)
            size = limits.round_trials(ROUND_SHARE, _used(records))
        if reason is None:
            spent = not size or not _fits(study, records, limits, plan.workers, bool(waiting))
            current = None if spent else refine.begin(study, None, size)
        else:
            current = _swept_round(recipe, study, records, size, limits, sweep)
            if current is None and reason.rule == "nothing-learned":
                current = _longer_round(study, records, size, limits)
            if current is None:
                outcome.findings.append(_with_next_step(reason, recipe, study, records, budget))
        if current is None:
            break
        records.append(current.ledger)
    for record in records:
        outcome.changes += refine.read_plan(record.study)[1]
    position = len(outcome.findings)
    yield from _over_seeds(outcome, records, budget, plan=plan, devices=devices)
    if spent:  # the remaining budget is known after the repeats
        found = _spent(study, records, budget, plan.workers)
        outcome.findings.insert(position, found)


def _left_waiting(study: Study, records: Sequence[Ledger]) -> set[Path]:
    """The folders of candidates whose repeats an earlier command did not complete."""
    rivals = best_rivals(pool(records))
    todo = refine.repeats_to_train(rivals, seeds=SEEDS)
    asked = study.read("tune") is not None or any(run.path.exists() for _, _, run in todo)
    return {rival.trial.run.path for rival in rivals} if todo and asked else set()


def _with_reserve(
    budget: Budget, records: Sequence[Ledger], waiting: set[Path], workers: int
) -> Budget:
    """The budget with time reserved for the repeats of the best trials so far.

    All the time that they need, if an earlier command left the repeats of the same trials.
    """
    rivals = best_rivals(pool(records))
    same = bool(waiting) and {rival.trial.run.path for rival in rivals} == waiting
    return budget.keeping(repeat_seconds(rivals, workers), whole=same)


def repeat_seconds(rivals: Sequence[Rival], workers: int) -> float:
    """The expected time of the missing repeats in seconds, by the measured epochs of the rivals.

    Includes a margin, and the start-up of workers; 0 if none is missing.
    """
    each = []
    for rival, _, run in refine.repeats_to_train(rivals, seeds=SEEDS):
        rows = rival.trial.run.rows()
        if rows:
            epochs = rival.recipe.search.epochs if rival.cut else len(rows)
            epoch = sum(row.seconds for row in rows) / len(rows)
            each.append(epoch * max(0, epochs - len(run.rows())))
    if not each:
        return 0.0
    return MARGIN * max(sum(each) / workers, *each) + START_SECONDS


def _trial_seconds(record: Ledger, epochs: int) -> float:
    """The expected seconds per trial of `epochs`, by the round's best trials; 0 if unknown."""
    rows = [row for trial in ranked(record.trials())[:CANDIDATES] for row in trial.run.rows()]
    return epochs * sum(row.seconds for row in rows) / len(rows) if rows else 0.0


def _next_round_seconds(
    study: Study, records: Sequence[Ledger], workers: int
) -> tuple[int, float, float]:
    """The epochs per trial of the next round, and the seconds of one and of `MIN_TRIALS` trials."""
    epochs = refine.proposal(study, None)[0].search.epochs
    one = _trial_seconds(records[-1], epochs)
    return epochs, one, max(one, one * MIN_TRIALS / workers)


def _fits(
    study: Study, records: Sequence[Ledger], limits: Budget, workers: int, waiting: bool
) -> bool:
    """Whether a trial of the next round fits in the time before the repeats.

    The minimum number of trials must fit if repeats of an earlier command are `waiting`.
    """
    left = limits.rounds_until.seconds_left
    if left is None:
        return True
    _, one, least = _next_round_seconds(study, records, workers)
    return (least if waiting else one) <= left


def _spent(study: Study, records: Sequence[Ledger], budget: Budget, workers: int) -> Finding:
    """The finding that the budget has no room for a further round, with one that continues."""
    if budget.runs is not None:
        used = _used(records)
        left = max(0, budget.runs - used)
        text = f"the budget is spent: {used} runs are trained"
        if left:
            text = f"{left} of {budget.runs} runs are left, too few for a round and its repeats"
        return Finding("stopped", "info", text, f"--budget {used + MIN_BUDGET} continues")
    epochs, one, least = _next_round_seconds(study, records, workers)
    missing = repeat_seconds(best_rivals(pool(records)), workers)
    enough = MARGIN * max(least + missing, least / (1 - MIN_RESERVE)) + START_SECONDS
    return Finding(
        "stopped",
        "info",
        "no time is left for a further round and the repeats: a trial of"
        f" {counted(epochs, 'epoch')} takes about {one:.0f} s",
        f"the same command with --budget {math.ceil(enough)}s continues",
    )


def _swept_round(
    recipe: Recipe,
    study: Study,
    records: Sequence[Ledger],
    size: int,
    limits: Budget,
    sweep: Callable[[Deadline], None],
) -> refine.Round | None:
    """A round with the learning rates that a sweep finds, if nothing was learned with others.

    None if they were already tried, or if the budget does not suffice.
    """
    last = records[-1].recipe
    if not size or not _may_be_swept(recipe, study, records):
        return None
    if study.read("lr-sweep") is None:
        until = limits.time if limits.runs is not None else limits.rounds_until.share(ROUND_TIME)
        sweep(until)
    swept = search.swept_range(recipe, study.read("lr-sweep"))
    left = limits.rounds_until.seconds_left
    too_long = left is not None and _trial_seconds(records[-1], last.search.epochs) > left
    if swept is None or too_long or limits.rounds_until.passed:
        return None
    before = last.space["train.lr"]
    reason = "nothing was learned, and lr-sweep found this range"
    change = Finding("space", "info", f"train.lr: {before} became {swept}: {reason}")
    space = last.space | {"train.lr": swept}
    return refine.begin_with(study, last.model_copy(update={"space": space}), [change], size)


def _longer_round(
    study: Study, records: Sequence[Ledger], size: int, limits: Budget
) -> refine.Round | None:
    """A round of longer trials, if nothing was learned yet and some training loss still falls.

    The space is kept, since trials at chance level do not show where to narrow it. None if longer
    trials were already tried, or if the budget does not suffice.
    """
    last = records[-1].recipe
    epochs = last.search.epochs * LONGER
    tried = {record.recipe.search.epochs for record in records} != {last.search.epochs}
    curves = [trial.curve for record in records for trial in record.trials()]
    falls = any(rows[-1].train_loss < rows[0].train_loss for rows in curves if rows)
    left = limits.rounds_until.seconds_left
    too_long = left is not None and _trial_seconds(records[-1], epochs) > left
    if not size or tried or not falls or too_long:
        return None
    reason = "nothing was learned yet, and the training loss still falls"
    change = Finding(
        "space", "info", f"search.epochs: {last.search.epochs} became {epochs}: {reason}"
    )
    longer = {"search.epochs": epochs, "train.epochs": max(epochs, last.train.epochs)}
    recipe = last.for_run().with_values(longer).model_copy(update={"space": last.space})
    return refine.begin_with(study, recipe, [change], size)


def _may_be_swept(recipe: Recipe, study: Study, records: Sequence[Ledger]) -> bool:
    """Whether nothing was learned and the learning rates of a sweep are not searched yet."""
    trials = [trial for record in records for trial in record.trials()]
    space = records[-1].recipe.space
    if best_of(trials) is not None and not nothing_learned(trials):
        return False
    if not isinstance(space.get("train.lr"), Range) or set(search.LR_DEPENDENT_KEYS) & space.keys():
        return False
    stored = study.read("lr-sweep")
    if stored is None:
        return True
    swept = search.swept_range(recipe, stored)
    return swept is not None and all(one.recipe.space.get("train.lr") != swept for one in records)


def _with_next_step(
    reason: Finding, recipe: Recipe, study: Study, records: Sequence[Ledger], budget: Budget
) -> Finding:
    """The reason to stop, with the budget for learning rates of a sweep if they are not tried."""
    if not _may_be_swept(recipe, study, records):
        if reason.rule == "nothing-learned" and study.read("lr-sweep") is None:
            skipped = (
                "; no lr-sweep was run, and this study's space cannot take other learning rates"
            )
            return replace(reason, evidence=reason.evidence + skipped)
        return reason
    more = f"--budget {_used(records) + MIN_BUDGET}"
    if budget.seconds is not None:
        more = f"a larger budget of time, such as --budget {math.ceil(2 * budget.seconds)}s,"
    advice = f"the same command with {more} runs an lr-sweep and searches the range it finds"
    return replace(reason, advice=advice)


def _search_round(ledger: Ledger, notes: list[Finding], budget: Budget) -> refine.Round:
    """The search as the first round; trials of an earlier `cnntune search` are kept."""
    planned, changes = refine.read_plan(ledger.study)
    begun = len(ledger.trials())
    if not planned:
        fresh = begun < MIN_TRIALS
        planned = budget.round_trials(COARSE_SHARE, 0) if fresh else begun
        changes = notes
        refine.write_plan(ledger.study, planned, changes)
    return refine.Round(ledger, [], 0, changes, planned)


def _train(
    current: refine.Round,
    budget: Budget,
    records: Sequence[Ledger],
    *,
    plan: Plan,
    devices: Sequence[str],
) -> Iterator[Phase]:
    """Train the trials that a round lacks, as far as the budget goes after those of `records`."""
    ledger, used = current.ledger, _used(records)
    _settle(ledger, plan)
    trials = ledger.trials()
    planned = current.planned or budget.round_trials(ROUND_SHARE, used - len(trials))
    size, fewer = search.within_grid(current.recipe, budget.still(planned, len(trials), used))
    if size != current.planned:
        refine.write_plan(current.study, size, [*current.changes, *fewer])
    running = sum(trial.status == "running" for trial in trials)
    complete = any(best_of(record.trials()) for record in records)
    whole = len(trials) >= size and not running
    if whole or budget.paused or (complete and budget.rounds_until.passed):
        return
    events = run_trials(
        ledger,
        budget=size,
        workers=plan.workers,
        devices=devices,
        given=current.given,
        seed=current.seed,
        deadline=budget.time,
        begin_until=budget.rounds_until.share(ROUND_TIME),
        at_least=MIN_TRIALS,
    )
    epochs = current.recipe.search.epochs
    title = f"round {current.number}: {counted(size, 'trial')} of {counted(epochs, 'epoch')}"
    if ledger.again:
        title += f"; {len(ledger.again)} that failed before"
    limited = _while_time(events, budget, complete)
    yield Phase(title, current.recipe, size, len(trials) - running, current.changes, limited)
    refuse_failed(ledger.trials())
    if not (_is_over(ledger, budget) or budget.rounds_until.passed or budget.paused):
        raise StudyError(f"{current.study.path}: round {current.number} ended before its trials")


def _while_time(
    events: Generator[Event, None, None], budget: Budget, complete: bool
) -> Iterator[Event]:
    """The events until the round's time is over and some trial is complete, to be repeated."""
    with closing(events):  # closing them stops the workers
        for event in events:
            yield event
            ended = event.summary
            complete = complete or (ended is not None and ended.status == "complete")
            if complete and budget.rounds_until.passed:
                return


def _is_over(ledger: Ledger, budget: Budget) -> bool:
    """Whether a round has all its trials; with a time budget, `MIN_TRIALS` are enough."""
    trials = ledger.trials()
    planned = refine.read_plan(ledger.study)[0] or 0
    enough = planned if budget.runs is not None else min(planned, MIN_TRIALS)
    return len(trials) >= enough and all(trial.status != "running" for trial in trials)


def _settle(ledger: Ledger, plan: Plan) -> None:
    """Record the precision and the data placement of a round's trials."""
    ledger.settle(plan.precision, plan.image_bytes, stream=plan.stream)


def _close(current: refine.Round) -> None:
    """Store that a round is over, with the number of its trials, so that it is not resumed."""
    trials = len(current.ledger.trials())
    if trials != refine.read_plan(current.study)[0]:
        refine.write_plan(current.study, trials, current.changes)
    if current.number:
        current.study.write("refine", {"format": FORMAT, "trials": trials})


def _used(records: Sequence[Ledger]) -> int:
    """The number of runs started, repeats included."""
    repeats = sum(len(list(record.study.path.glob("trial-*-seed-*"))) for record in records)
    return repeats + sum(len(record.trials()) for record in records)


def with_swept_rates(recipe: Recipe, study: Study) -> Recipe:
    """The recipe with the range of the last sweep, if its own range does not overlap with it.

    `search` keeps the recipe's range and warns; the loop runs without a user who could react.
    """
    swept = search.swept_range(recipe, study.read("lr-sweep"))
    asked = recipe.space.get("train.lr")
    if swept is None or not isinstance(asked, Range) or search.intersect(asked, swept):
        return recipe
    return recipe.model_copy(update={"space": recipe.space | {"train.lr": swept}})


def begun_with(recipe: Recipe, study: Study) -> Recipe | None:
    """The recipe that the study's search was started with; None if there is none.

    Raises:
        StudyError: if the study has another recipe.
    """
    swept = with_swept_rates(recipe, study)
    try:
        return swept if Ledger.of_recipe(study, swept) else None
    except StudyError:
        return recipe if Ledger.of_recipe(study, recipe) else None


def reason_to_stop(records: Sequence[Ledger]) -> Finding | None:
    """Why no further round is possible; None if it is."""
    *before, last = [best_of(record.trials()) for record in records]
    if last is None:
        severity: Severity = "warn" if any(before) else "fail"
        return Finding("stopped", severity, "no trial of the last round is complete")
    nothing = nothing_learned([trial for record in records for trial in record.trials()])
    return nothing[0] if nothing else None


def _gain(
    records: Sequence[Ledger],
    budget: Budget,
    limits: Budget,
    *,
    plan: Plan,
    devices: Sequence[str],
) -> Generator[Phase, None, Finding | None]:
    """Train the last round's best and the best before with the same seeds: why to stop, if so.

    Their accuracies in the search cannot be compared, since each is the best of many. Nothing is
    trained where the budget has no room for a round after it; then that round is trained without.
    """
    before, last = best_rivals(pool(records[:-1])), best_rivals(pool(records[-1:]))
    if not before or not last:
        return None
    pair = [last[0], before[0]]
    todo = refine.repeats_to_train(pair, seeds=SEEDS)
    new = sum(not run.path.exists() for _, _, run in todo)
    if not limits.round_trials(ROUND_SHARE, _used(records) + new):
        return None
    if todo and not budget.time.passed:
        events = refine.repeat(todo, workers=plan.workers, devices=devices, deadline=budget.time)
        title = f"{pair[0].name} and {pair[1].name} with the same fresh seeds: {len(todo)} runs"
        yield Phase(title, pair[0].recipe, len(todo), 0, [], events)
    return within_chance(*pair)


def within_chance(later: Rival, earlier: Rival) -> Finding | None:
    """The finding that a later trial does not beat an earlier one on the same fresh seeds.

    None if it does, or if fewer than two seeds of both are trained.
    """
    gains = paired_gains(later, earlier, seeds=SEEDS)
    if len(gains) < MIN_PAIRS:
        return None
    mean, chance = statistics.fmean(gains), by_chance(gains, val_images([later, earlier]))
    if mean > chance:
        return None
    text = (
        f"the last round gained {100 * mean:+.2f} points: {later.name} against {earlier.name} on"
        f" the same {len(gains)} fresh seeds, where up to {100 * chance:.2f} points may be chance"
    )
    return Finding("stopped", "info", text, measured=mean, expected=chance)


def by_chance(gains: Sequence[float], images: int | None = None) -> float:
    """How much the mean of paired gains may be by chance: Student's t, one-sided, at `GOES_ON`.

    A spread below one of the validation images counts as one image.
    """
    spread = max(statistics.stdev(gains), 1 / images if images else 0.0)
    return quantile(len(gains) - 1, GOES_ON) * spread / math.sqrt(len(gains))


def _cut(current: refine.Round, records: Sequence[Ledger]) -> Finding:
    """The finding that the time ran out during a round."""
    trials = current.ledger.trials()
    running = sum(trial.status == "running" for trial in trials)
    planned = refine.read_plan(current.study)[0]
    return Finding(
        "stopped",
        "info" if best_rivals(pool(records)) else "fail",
        f"the time is up: round {current.number} has started {len(trials)} of {planned} trials, of"
        f" which {running} {'is' if running == 1 else 'are'} unfinished",
        "the same command resumes them",
    )


def _paused(records: Sequence[Ledger]) -> Finding:
    """That the time of a budget of runs was over between two rounds."""
    text = f"the time is over after {counted(_used(records), 'training run')}"
    return Finding("stopped", "info", text, "run the same command again to resume")


def _over_seeds(
    outcome: Outcome,
    records: Sequence[Ledger],
    budget: Budget,
    *,
    plan: Plan,
    devices: Sequence[str],
) -> Iterator[Phase]:
    """Train the best trials of all rounds again with fresh seeds, and compare them."""
    outcome.findings += [found for record in records for found in file_findings(record.trials())]
    for record in records:
        _settle(record, plan)
    rivals = best_rivals(pool(records))
    if not rivals:
        return
    todo = refine.repeats_to_train(rivals, seeds=SEEDS, most=budget.repeats(_used(records)))
    if todo and not budget.time.passed:
        events = refine.repeat(todo, workers=plan.workers, devices=devices, deadline=budget.time)
        title = f"the best {len(rivals)} trials with fresh seeds: {len(todo)} runs"
        yield Phase(title, rivals[0].recipe, len(todo), 0, [], events)
    outcome.candidates = candidates(rivals, seeds=SEEDS)
    needed = _used(records) + _missing(rivals)
    advice = f"the same command with --budget {needed} trains them"
    if budget.runs is not None and needed <= budget.runs:
        advice = "the same command trains them"
    if budget.seconds is not None:
        seconds = math.ceil(repeat_seconds(rivals, plan.workers))
        advice = f"the same command with --budget {seconds}s trains them first"
    outcome.val_images = val_images(rivals)
    outcome.findings += findings(outcome.candidates, val_images=outcome.val_images, advice=advice)
    trials = [trial for record in records for trial in record.trials()]
    outcome.findings += optimism_findings(trials, outcome.candidates, outcome.val_images)


def _missing(rivals: Sequence[Rival]) -> int:
    """The number of repeats that are not started."""
    todo = refine.repeats_to_train(rivals, seeds=SEEDS)
    return sum(not run.path.exists() for _, _, run in todo)
