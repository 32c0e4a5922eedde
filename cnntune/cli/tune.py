"""Steps 4 to 7: search, refine, look at the curves and refine again, until it stops paying."""

from typing import TYPE_CHECKING, Annotated

import typer

from cnntune.cli.command import Command, Setup, record, set_up
from cnntune.cli.options import (
    RUNS,
    AsJson,
    Deterministic,
    Device,
    Epochs,
    Name,
    Pruner,
    Quiet,
    RecipeArgument,
    Runs,
    Sampler,
    Seed,
    Sets,
    Tensorboard,
    Timeout,
    Verbose,
    Workers,
    parse_budget,
    search_keys,
)
from cnntune.cli.session import decide, session, watch
from cnntune.errors import RecipeError
from cnntune.findings import Finding
from cnntune.machine.clock import Deadline
from cnntune.workers import processes

if TYPE_CHECKING:
    from cnntune.config.recipe import Recipe
    from cnntune.steps.tune import Phase


def tune(
    recipe: RecipeArgument = None,
    budget: Annotated[
        str,
        typer.Option(
            metavar="RUNS|TIME",
            help="Total number of training runs in the study, trials and repeats of all commands"
            " (200); or the time of this command (2h, 30m), part of which is kept for repeats.",
        ),
    ] = "50",
    epochs: Epochs = None,
    sampler: Sampler = None,
    pruner: Pruner = None,
    timeout: Timeout = None,
    workers: Workers = "auto",
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    deterministic: Deterministic = False,
    runs: Runs = RUNS,
    study: Name = None,
    tensorboard: Tensorboard = False,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Steps 1-7: search, read the curves, change the space, refine, until it stops paying.

    --epochs and --pruner are those of the first round. There is no --storage, since each round
    depends on all trials before it: search with --storage on several machines, then refine.
    """
    command = Command.begin("tune", json=json, quiet=quiet, verbose=verbose)
    if tensorboard:
        command.begin_events()
    count, seconds = parse_budget(budget)
    if seconds is not None and timeout is not None:
        raise RecipeError("--timeout: needs a --budget of training runs (got one of time)")
    time = Deadline.after(timeout if seconds is None else seconds)
    processes.prepare()
    setup = set_up(
        command,
        recipe,
        set_,
        device=device,
        seed=seed,
        runs=runs,
        study=study,
        exact=deterministic,
        further=search_keys(epochs, sampler, pruner),
    )

    from cnntune.steps import search
    from cnntune.steps import tune as step
    from cnntune.steps.budget import Budget
    from cnntune.steps.rivals import last_known_round
    from cnntune.study import ledger
    from cnntune.workers.capacity import parse_workers

    limits = Budget.of(count, time)
    asked_workers = parse_workers(workers)
    runs_meant = " training runs" if count else ""
    command.begin_work(f"tuning {setup.study.path} with a budget of {budget}{runs_meant}")
    with session(command, setup.study, setup.device_name) as work:
        recipe_, shortened = _first_recipe(command, setup, seconds, time)
        begun = ledger.begun(setup.study)
        asked_recipe = begun.recipe if begun is not None else recipe_
        space = asked_recipe.space or search.default_space(asked_recipe.train.optimizer)
        work.note([*setup.space_warnings, *search.without_effect(space, set_ or [])])
        plan = decide(command, asked_recipe, setup.trial_devices, asked_workers, begun)
        outcome = step.Outcome(setup.study)

        def sweep(until: Deadline) -> None:
            shortened.extend(sweep_rates(command, setup, until)[0])

        phases = step.tune(
            outcome, recipe_, limits, plan=plan, devices=setup.trial_devices, sweep=sweep
        )
        for phase in phases:
            _watch_phase(command, phase)
        findings = [*shortened, *outcome.changes, *outcome.findings]
        document = work.finish(
            "tune",
            findings,
            setup.study,
            candidates=[candidate.as_json() for candidate in outcome.candidates],
            winner=str(outcome.winner) if outcome.winner else None,
            rounds=last_known_round(setup.study),
        )
    if not json:
        command.screen.title(f"{setup.study.path}: tuned")
        command.screen.candidates(outcome.candidates)
        command.screen.findings([*work.notes, *findings])
    if outcome.winner:
        command.screen.next("train", str(outcome.winner))
    command.end(document)


def _watch_phase(command: Command, phase: "Phase") -> None:
    """Train the runs of a phase, after its title and what it changes in the space."""
    command.screen.say(phase.title)
    command.log.write(phase.title)
    for change in phase.changes:
        command.screen.say(change.evidence)
    watch(command, phase.recipe, phase.events, total=phase.runs, done=phase.done)


def _first_recipe(
    command: Command, setup: Setup, seconds: float | None, time: Deadline
) -> "tuple[Recipe, list[Finding]]":
    """The recipe of the first round, and findings of checks that time cut short.

    A study that has begun keeps its recipe. A new one is checked, and has the learning rates of its
    sweep.
    """
    from cnntune.steps import tune as step
    from cnntune.steps.rivals import lost_rounds

    begun = step.begun_with(setup.recipe, setup.study)
    record(setup)
    for lost in lost_rounds(setup.study):
        command.screen.say(lost.evidence)
    if begun is not None:
        return begun, make_up_checks(command, setup, time)
    shortened = check_and_sweep(command, setup, seconds, time)
    return step.with_swept_rates(setup.recipe, setup.study), shortened


def check_and_sweep(
    command: Command, setup: Setup, seconds: float | None, time: Deadline
) -> list[Finding]:
    """What precedes the first round: sanity, and a sweep where there is none.

    Both have a share of the time; what was cut short at its end comes back as findings. A `fail` of
    sanity ends the command.

    Raises:
        StudyError: where no trial can be trained in the time left.
    """
    from cnntune.steps.budget import SANITY_TIME, SWEEP_TIME, refuse_too_short

    until_sanity, until_sweep = time.share(SANITY_TIME), time.share(SWEEP_TIME)
    shortened, least = check(command, setup, until_sanity), None
    if setup.study.read("lr-sweep") is None:
        cut, least = sweep_rates(command, setup, until_sweep)
        shortened += cut
    refuse_too_short(seconds, time, least)
    return shortened


def make_up_checks(command: Command, setup: Setup, time: Deadline) -> list[Finding]:
    """Run the checks of a study for which an earlier command had no time."""
    from cnntune.steps.budget import SANITY_TIME

    told = (setup.study.read("tune") or {}).get("findings") or []
    if not any(one.get("rule") == "sanity" for one in told):
        return []
    return check(command, setup, time.share(SANITY_TIME))


def check(command: Command, setup: Setup, until: Deadline) -> list[Finding]:
    """Run the checks of sanity and return which were cut.

    A `fail` ends the command, unless it is that of a network that may only be too small.
    """
    from cnntune.findings import failed
    from cnntune.steps import checks

    checked = []
    for news in checks.check(setup.recipe, setup.device_name, until):
        if isinstance(news, Finding):
            checked.append(news)
        else:
            command.screen.say(news)
    if failed(finding for finding in checked if not _weak(finding)):
        command.screen.findings(checked)
        command.screen.next("sanity", *setup.again)
        command.end(command.document(checked, setup.study))
    return [finding for finding in checked if finding.rule == "sanity"]


def _weak(finding: Finding) -> bool:
    """Whether a network is far below what the images allow, without a cause: rounds can widen it.

    At chance, where not even the images tell the classes apart, the labels may be at fault.
    """
    from cnntune.runs.chance import SHORTFALL

    short = (finding.expected or 0.0) - (finding.measured or 0.0)
    return finding.rule == "learns" and short > SHORTFALL


def sweep_rates(
    command: Command, setup: Setup, until: Deadline
) -> tuple[list[Finding], float | None]:
    """Sweep learning rates and keep the result in the study.

    Returns what was cut short, and how long a trial takes at least, if that is known.
    """
    from cnntune.steps import checks, lr_sweep

    shortened, swept = [], None
    for part in checks.sweep(setup.recipe, setup.device_name, until):
        if isinstance(part, str):
            command.screen.say(part)
        if isinstance(part, Finding):
            shortened.append(part)
        if isinstance(part, checks.Swept):
            swept = part
    if swept is None:
        return shortened, None
    result = lr_sweep.judge(swept.curves)
    document = command.document(result.findings, setup.study, **result.as_json())
    setup.study.write("lr-sweep", document | {"recipe": setup.recipe.as_values()})
    return shortened, swept.trial_seconds(setup.recipe)
