"""One training run, with the final test."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnntune.cli.command import Command, Setup, about, beside_others, record, set_up
from cnntune.cli.options import (
    RUNS,
    AsJson,
    Deterministic,
    Device,
    Name,
    Quiet,
    RecipeArgument,
    Runs,
    Seed,
    Sets,
    Verbose,
)
from cnntune.cli.session import result_line, start_line
from cnntune.findings import Finding
from cnntune.runs.chance import Chance
from cnntune.runs.summary import Summary

if TYPE_CHECKING:
    from torch import nn

    from cnntune.config.recipe import Recipe
    from cnntune.data import Data
    from cnntune.runs.run import Epoch, Run


def train(
    recipe: RecipeArgument = None,
    test_again: Annotated[
        bool,
        typer.Option(
            "--test-again", help="Evaluate on the test set even if it was evaluated before."
        ),
    ] = False,
    no_test: Annotated[
        bool,
        typer.Option(
            "--no-test", help="Do not evaluate on the test set: this run is not the last."
        ),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files into the run's folder too.")
    ] = False,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    deterministic: Deterministic = False,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """One run from a recipe or a trial's config.json; keeps the best weights; final test, once.

    The same command resumes a run that was interrupted.
    """
    command = Command.begin("train", json=json, quiet=quiet, verbose=verbose)
    setup = set_up(
        command,
        recipe,
        set_,
        device=device,
        seed=seed,
        runs=runs,
        study=study,
        exact=deterministic,
    )

    from cnntune.runs.tensorboard import check_tensorboard
    from cnntune.steps import train_run
    from cnntune.training import build

    command.begin_log(setup.study, setup.device_name)
    if tensorboard:
        check_tensorboard()
    train_run.looks_of(setup.study)  # hours of training must not end at a damaged file
    config, data = _decided(command, setup)
    with train_run.run_of(setup.study, config) as run:
        model = build.build_model(config, data)
        rows = _trained(command, setup, config, data, model, run, events=tensorboard)
        chance = Chance.of(data.val.labels.tolist())
        summary = train_run.keep_trained(run, rows, chance, data.waited_seconds)
        findings = train_run.waiting_findings(rows, data.waited_seconds)
        if summary["status"] == "diverged":
            findings.append(_diverged_finding(rows[-1], chance))
        elif not no_test:
            measured, found = _tested(command, setup, data, model, run, again=test_again)
            summary |= measured
            findings += found
        run.finish(summary)
        if ended := Summary.from_json(summary):
            command.log.write(f"{run.name} {result_line(ended)}")
    document = command.document(findings, setup.study, run=str(run.path), **summary)
    if not json:
        command.screen.summary(run.path, summary)
        command.screen.findings(findings)
    command.screen.next("diagnose", str(run.path))
    command.end(document)


def _decided(command: Command, setup: Setup) -> "tuple[Recipe, Data]":
    """Record the command, and decide what is left open: threads and precision."""
    from cnntune.steps import train_run
    from cnntune.training import build, precision

    if setup.study.read("study") is None:
        record(setup)
    else:
        setup.study.record_command(setup.asked)
    config = train_run.as_begun(setup.study, setup.recipe.for_run())
    data = build.load_data(config, setup.device)
    config = beside_others(command, setup, config, data)
    config = precision.resolve(config, data, setup.device)
    precision.apply(config)
    command.begin_work(f"{about(setup, data)}, {config.arithmetic()}")
    return config, data


def _trained(
    command: Command,
    setup: Setup,
    config: "Recipe",
    data: "Data",
    model: "nn.Module",
    run: "Run",
    *,
    events: bool,
) -> "list[Epoch]":
    """Train what is left of the run; `events`: also write event files. Returns all its rows."""
    from cnntune.runs.tensorboard import event_file
    from cnntune.steps import train_run

    rows = train_run.trained_rows(run, config.train.epochs)
    if rows:
        command.screen.say(f"{run.path} is trained")
        return rows
    if done := len(run.rows()):
        command.screen.say(f"{run.path} was interrupted after epoch {done}; resuming")
    command.log.write(f"{run.name} {start_line(run)}")
    with event_file(run) if events else nullcontext() as write:
        for row in train_run.train_and_keep(config, data, setup.device, model, run):
            rows.append(row)
            command.screen.epoch(row, config.train.epochs)
            if write:
                write(row)
    return rows


def _tested(
    command: Command, setup: Setup, data: "Data", model: "nn.Module", run: "Run", *, again: bool
) -> "tuple[dict[str, Any], list[Finding]]":
    """The final test, when no other run of the study has one."""
    from cnntune.runs.files import locked
    from cnntune.runs.study import TEST_LOCK
    from cnntune.steps import train_run

    waits = f"{run.path} is trained; waiting for another final test in {setup.study.path}"
    with locked(setup.study.path, TEST_LOCK, waiting=lambda: command.screen.say(waits)):
        return train_run.final_test(model, data, setup.study, run, again=again)


def _diverged_finding(last: "Epoch", chance: Chance) -> Finding:
    evidence = f"the loss became NaN or infinite in epoch {last.epoch}"
    if not last.diverged:
        evidence = f"the loss is {last.val_loss:.4g} after epoch {last.epoch}, far above the"
        evidence += f" {chance.loss:.4g} of guessing"
    advice = "lower train.lr tenfold, or run `cnntune lr-sweep`; then warm up or clip gradients"
    if last.diverged and last.epoch == 1:
        advice = "run `cnntune sanity` first: the loss may be NaN before any step; if it is not, "
        advice += "lower train.lr tenfold"
    return Finding("diverged", "fail", evidence, advice)
