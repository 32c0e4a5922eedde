"""The command line: parse, call a step, store its result, draw it, choose the exit code.

Heavy libraries are imported inside the commands that need them, so that `--help` and `diagnose`
start at once.

Exit codes: 0 fine; 1 a finding of severity `fail`; 2 could not run; 3 a bug in cnntune; 130 Ctrl-C.
"""

import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cnntune import __version__
from cnntune.errors import CnntuneError, StudyError
from cnntune.findings import Finding, failed
from cnntune.runs import FORMAT, Study, finite, home
from cnntune.show import Screen, TrialWatch

if TYPE_CHECKING:
    import torch

    from cnntune.recipe import Recipe

app = typer.Typer(
    name="cnntune",
    help="Find out why a CNN does not train, and tune one that does (CS231n, training CNNs).",
    epilog="A usual session: sanity, lr-sweep, search --budget 50, refine, diagnose runs/, train.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RECIPE]",
        help="A .toml, a run's config.json, or a shipped recipe such as digits."
        " Left out: ./cnntune.toml if there is one, else digits.",
        show_default=False,
    ),
]
StudyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]",
        help="A study's folder or its name in --runs. Left out: the last study searched.",
        show_default=False,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe key: --set train.lr=0.01"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="The recipe's seed: weights, batches, draws.", show_default=False),
]
Runs = Annotated[Path, typer.Option(metavar="DIR", help="Where studies are kept.")]
Name = Annotated[
    str | None,
    typer.Option(
        "--study", metavar="NAME", help="The study's folder; the recipe's name if left out."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no hints.")]
Workers = Annotated[
    str, typer.Option(metavar="N|auto", help="Trial processes; auto: one a CPU core, one on a GPU.")
]
RUNS = Path("runs")


@dataclass
class Command:
    """A command that runs: where it prints, and how it ends."""

    name: str
    json: bool
    screen: Screen

    @classmethod
    def begin(cls, name: str, *, json: bool, quiet: bool) -> "Command":
        """Called first by every command."""
        return cls(name, json, Screen(quiet=quiet))

    def document(
        self, findings: Sequence[Finding], study: Study | None, **added: Any
    ) -> dict[str, Any]:
        """The command's JSON document, as in the contract."""
        return {
            "format": FORMAT,
            "command": self.name,
            "ok": not failed(findings),
            "findings": [finding.as_json() for finding in findings],
            "study": str(study.path) if study else None,
            **finite(added),
        }

    def end(self, document: dict[str, Any]) -> NoReturn:
        """Print the document if it was asked for, and leave with 0, or 1 after a `fail`."""
        if self.json:
            print(json.dumps(document, indent=2, allow_nan=False))
        raise typer.Exit(0 if document["ok"] else 1)


@dataclass
class Setup:
    """What most commands work on."""

    recipe: "Recipe"
    device: "torch.device"
    study: Study
    code: Path  # where the recipe lies, and own modules with it


def set_up(
    source: str | None,
    sets: Sequence[str] | None,
    *,
    device: str,
    seed: int | None,
    runs: Path,
    study: str | None,
    further: Sequence[str] = (),
) -> Setup:
    """Read the recipe with its overrides, find the device, name the study."""
    from cnntune import build, recipe
    from cnntune import device as devices

    overrides = [*(sets or []), *further, *([f"seed={seed}"] if seed is not None else [])]
    loaded = build.load_recipe(source, overrides)
    found = recipe.find(source)
    code = build.code_folder(found)
    folder = runs / (_checked_name(study) if study else loaded.name)
    if study is None and runs == RUNS:
        folder = home(found) or folder
    return Setup(loaded, devices.resolve(device), Study(folder), code)


def _checked_name(name: str) -> str:
    import re

    from cnntune.recipe import NAME_PATTERN

    if not re.match(NAME_PATTERN, name):
        raise StudyError(
            f"--study: must be letters, digits, '.', '_' and '-', 64 at most (got {name!r})"
        )
    return name


def version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        print(f"cnntune {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find out why a CNN does not train, and tune one that does (CS231n, training CNNs)."""


@app.command()
def sanity(
    recipe: RecipeArgument = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Print the lesson behind a rule.", show_default=False),
    ] = None,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Steps 1 and 2: is the initial loss log C, can a tiny sample be overfitted? And what else."""
    command = Command.begin("sanity", json=json, quiet=quiet)

    from cnntune import build
    from cnntune import device as devices
    from cnntune import sanity as step

    if explain is not None:
        print(step.explain(explain))
        raise typer.Exit()
    setup = set_up(recipe, set_, device=device, seed=seed, runs=runs, study=study)
    data = build.load_data(setup.recipe, setup.device)
    devices.use_threads(setup.recipe, data)
    command.screen.say(_about(setup, data))
    with command.screen.err.status("checking"):
        findings = list(step.check(setup.recipe, data, setup.device))
    document = command.document(findings, setup.study)
    _store(setup, "sanity", document)
    if not json:
        command.screen.title(f"sanity of {setup.recipe.name}")
        command.screen.findings(findings)
    if document["ok"]:
        command.screen.next(f"cnntune lr-sweep{_again(recipe)}")
    command.end(document)


@app.command("lr-sweep")
def lr_sweep(
    recipe: RecipeArgument = None,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 3: the learning rate that lowers the loss within 100 iterations."""
    command = Command.begin("lr-sweep", json=json, quiet=quiet)
    setup = set_up(recipe, set_, device=device, seed=seed, runs=runs, study=study)

    from cnntune import build
    from cnntune import device as devices
    from cnntune import lr_sweep as step

    data = build.load_data(setup.recipe, setup.device)
    devices.use_threads(setup.recipe, data)
    command.screen.say(_about(setup, data))
    curves = []
    for curve in step.sweep(setup.recipe, data, setup.device):
        curves.append(curve)
        again = f", seed {curve.repeat + 1}" if curve.repeat else ""
        change = f"loss {curve.first:.3f} -> {curve.last:.3g} in {curve.iterations} iterations"
        command.screen.say(f"rate {curve.lr:.2g}{again}: {change}")
    result = step.judge(curves)
    document = command.document(result.findings, setup.study, **result.as_json())
    _store(setup, "lr-sweep", document | {"recipe": setup.recipe.as_values()})
    if not json:
        iterations = max(curve.iterations for curve in result.curves)
        name = setup.recipe.name
        command.screen.title(f"learning rates of {name}, {iterations} iterations each")
        command.screen.sweep(result.as_json()["curves"], result.lr)
        command.screen.findings(result.findings)
    if document["ok"]:
        command.screen.next(f"cnntune search{_again(recipe)} --budget 50")
    command.end(document)


@app.command()
def search(
    recipe: RecipeArgument = None,
    budget: Annotated[int, typer.Option(min=1, help="Trials of the study in all.")] = 50,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs a trial; search.epochs if left out.")
    ] = None,
    workers: Workers = "auto",
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 4: a coarse random search. The same command resumes it, a larger budget extends it."""
    command = Command.begin("search", json=json, quiet=quiet)
    further = [f"search.epochs={epochs}"] if epochs else []
    setup = set_up(recipe, set_, device=device, seed=seed, runs=runs, study=study, further=further)

    from cnntune import search as step
    from cnntune import trials as trials_room
    from cnntune.workers import count

    processes = count(workers, setup.device)
    with setup.study.lock():
        known = trials_room.exists(setup.study)
        prepared, notes = (setup.recipe, []) if known else step.prepare(setup.recipe, setup.study)
        prepared = trials_room.create(setup.study, prepared, asked=setup.recipe)
        _record(setup)
        command.screen.say(f"searching {_space_line(prepared)}")
        for note in notes:
            command.screen.say(note.evidence)
        _run_trials(command, setup, prepared, budget=budget, workers=processes)
        result = step.result(setup.study, prepared)
        findings = [*notes, *result.findings, *step.importance_findings(result)]
        document = command.document(findings, setup.study, **result.as_json())
        setup.study.write("search", document)
        setup.study.write_text("trials.csv", trials_room.table(result.trials).to_csv(index=False))
    if not json:
        command.screen.result(setup.study.path, result.trials)
        command.screen.importance(result.importance)
        command.screen.findings(findings)
    if result.best:
        command.screen.next(f"cnntune refine {setup.study.path}")
    command.end(document)


@app.command()
def refine(
    study: StudyArgument = None,
    budget: Annotated[int, typer.Option(min=1, help="Trials of the refinement.")] = 8,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Epochs a trial; left out: train.epochs, or three times those of the search.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds for each of the best three.")] = 3,
    workers: Workers = "auto",
    device: Device = "auto",
    runs: Runs = RUNS,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 5: narrow the space around the best, train longer, repeat the best over seeds."""
    command = Command.begin("refine", json=json, quiet=quiet)
    found = find_study(study, runs)

    from cnntune import build, search
    from cnntune import device as devices
    from cnntune import refine as step
    from cnntune import trials as trials_room
    from cnntune.workers import count

    place = devices.resolve(device)
    processes = count(workers, place)
    with found.lock():
        code = Path((found.read("study") or {}).get("code", "."))
        for folder in (Path.cwd(), code):
            build.add_code_folder(folder)
        refinement = step.begin(found, epochs)
        setup = Setup(refinement.recipe, place, refinement.study, code)
        recipe = trials_room.create(setup.study, setup.recipe, asked=setup.recipe)
        _record(setup)
        notes = step.narrowing_findings(refinement.before.space, recipe.space)
        command.screen.say(
            f"refining around the best {len(refinement.strong)} trials of {found.path},"
            f" {recipe.search.epochs} epochs each"
        )
        for note in notes:
            command.screen.say(note.evidence)
        best = [trial.values for trial in refinement.strong[:1]]
        _run_trials(
            command,
            setup,
            recipe,
            budget=budget,
            workers=processes,
            given=best,
            seed=refinement.seed,
        )
        whole_space = recipe.model_copy(update={"space": trials_room.stored_recipe(found).space})
        result = search.result(setup.study, whole_space)
        _repeat(command, setup, recipe, result.trials, seeds=seeds, workers=processes)
        candidates = step.candidates(setup.study, result.trials, seeds=seeds)
        val_images = result.best.summary.get("val_images") if result.best else None
        over_seeds = step.seed_findings(candidates, val_images=val_images)
        findings = [*notes, *result.findings, *over_seeds]
        document = command.document(
            findings,
            setup.study,
            **result.as_json(),
            candidates=[candidate.as_json() for candidate in candidates],
            tie=[c.number for c in step.tied(candidates, val_images=val_images)],
        )
        setup.study.write("refine", document)
        setup.study.write_text("trials.csv", trials_room.table(result.trials).to_csv(index=False))
    if not json:
        command.screen.result(setup.study.path, result.trials)
        command.screen.candidates(candidates)
        command.screen.findings(findings)
    command.screen.next(f"cnntune diagnose {found.path}")
    if candidates:
        config = setup.study.trial(candidates[0].number).path / "config.json"
        command.screen.next(f"cnntune train {config}")
    command.end(document)


@app.command()
def train(
    recipe: RecipeArgument = None,
    test_again: Annotated[
        bool, typer.Option("--test-again", help="Measure the test part although it was before.")
    ] = False,
    no_test: Annotated[
        bool, typer.Option("--no-test", help="Leave the test part alone: this run is not the last.")
    ] = False,
    set_: Sets = None,
    device: Device = "auto",
    seed: Seed = None,
    runs: Runs = RUNS,
    study: Name = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """One run from a recipe or a trial's config.json; keeps the best weights; final test, once."""
    command = Command.begin("train", json=json, quiet=quiet)
    setup = set_up(recipe, set_, device=device, seed=seed, runs=runs, study=study)

    from cnntune import build, final
    from cnntune import device as devices
    from cnntune.workers import summarise

    config = setup.recipe.for_run()
    data = build.load_data(config, setup.device)
    devices.use_threads(config, data)
    command.screen.say(_about(setup, data))
    rows = []
    findings: list[Finding] = []
    with build.user_code("training"):
        model = build.build_model(config, data)
        run = final.new_run(setup.study)
        for row in final.train_and_keep(config, data, setup.device, model, run):
            rows.append(row)
            command.screen.epoch(row, config.train.epochs)
        summary = summarise(rows)
        if summary["status"] == "diverged":
            findings = [_diverged_finding(rows[-1].epoch)]
        elif not no_test:
            with setup.study.lock():
                measured, findings = final.final_test(
                    model, data, setup.study, run, again=test_again
                )
            summary |= measured
    run.finish(summary)
    document = command.document(findings, setup.study, run=str(run.path), **summary)
    if not json:
        command.screen.summary(run.path, summary)
        command.screen.findings(findings)
    command.screen.next(f"cnntune diagnose {run.path}")
    command.end(document)


@app.command()
def diagnose(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Runs, studies, logs of any tool, or folders."),
    ],
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="CURVE=COLUMN", help="A log's column: val_loss=my_loss."),
    ] = None,
    fail_on: Annotated[
        str, typer.Option(metavar="LABEL,...", help="Exit 1 if a run has one of these labels.")
    ] = "",
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 6: still improving, overfitting or underfitting? And what to change next."""
    command = Command.begin("diagnose", json=json, quiet=quiet)

    from cnntune import judge

    mapping, labels = judge.parse_mapping(map_ or ()), judge.parse_labels(fail_on)
    judged, skipped = judge.judge_paths(paths, mapping)
    findings = [run.finding(labels) for run in judged]
    document = command.document(
        findings, None, runs=[run.as_json() for run in judged], skipped=skipped
    )
    if not json:
        command.screen.diagnoses(judged)
        for entry in skipped:
            command.screen.text(f"skipped {entry['path']}: {entry['reason']}")
    for remark in judge.remarks(judged):
        command.screen.say(remark)
    command.end(document)


def find_study(name: str | None, runs: Path) -> Study:
    """The study that STUDY means: a folder, a name in `runs`, or the last one searched."""
    if name is None:
        searched = sorted(runs.glob("*/study.db"), key=lambda path: path.stat().st_mtime)
        if not searched:
            raise StudyError(f"{runs}: holds no search; run `cnntune search` first")
        return Study(searched[-1].parent)
    for folder in (Path(name), runs / name):
        if (folder / "study.db").is_file():
            return Study(folder)
    there = sorted(path.parent.name for path in runs.glob("*/study.db"))
    raise StudyError(
        f"{name}: no study of that name in {runs}; there are: {', '.join(there) or 'none'}"
    )


def _run_trials(
    command: Command,
    setup: Setup,
    recipe: "Recipe",
    *,
    budget: int,
    workers: int,
    given: Any = (),
    seed: int | None = None,
) -> None:
    """Bring a study to its budget, showing what happens."""
    from cnntune import trials as trials_room

    done = sum(trial.status != "running" for trial in trials_room.trials_of(setup.study))
    if done:
        command.screen.say(f"{setup.study.path} holds {done} finished trials of {budget}")
    events = trials_room.run_trials(
        setup.study,
        recipe,
        budget=budget,
        workers=workers,
        device=setup.device,
        given=given,
        seed=seed,
    )
    _watch(command, recipe, events, total=max(budget, done), done=done)


def _repeat(
    command: Command, setup: Setup, recipe: "Recipe", trials: Any, *, seeds: int, workers: int
) -> None:
    """Train the best trials again with other seeds, showing what happens."""
    from cnntune import refine as step

    best = min(step.CANDIDATES, sum(trial.status == "complete" for trial in trials))
    total = best * (seeds - 1)
    if not total:
        return
    command.screen.say(f"training the best {best} again, {seeds} seeds in all")
    events = step.repeat(
        setup.study, trials, recipe, seeds=seeds, workers=workers, device=setup.device
    )
    _watch(command, recipe, events, total=total, done=0)


def _watch(command: Command, recipe: "Recipe", events: Any, *, total: int, done: int) -> None:
    with TrialWatch(command.screen, total, done) as watch:
        for event in events:
            name = event.job.folder.name
            if event.summary is not None:
                watch.ended(name, event.summary)
            elif event.epoch is not None:
                watch.epoch(name, event.epoch.val_acc)
            else:
                values = {key: event.job.recipe.get(key) for key in recipe.space}
                watch.started(name, values)


def _diverged_finding(epoch: int) -> Finding:
    return Finding(
        "diverged",
        "fail",
        f"the loss became NaN or infinite in epoch {epoch}",
        "lower train.lr tenfold, or run `cnntune lr-sweep`; then warm up or clip gradients",
    )


def _about(setup: Setup, data: Any) -> str:
    test = f", {len(data.test)} test" if data.test is not None else ""
    shape = "x".join(str(size) for size in data.in_shape)
    return (
        f"{setup.recipe.name}: {len(data.train)} training images, {len(data.val)} validation{test},"
        f" {shape}, {len(data.classes)} classes; model {setup.recipe.model.name} on {setup.device}"
    )


def _space_line(recipe: "Recipe") -> str:
    return ", ".join(f"{key} {dimension}" for key, dimension in recipe.space.items())


def _again(source: str | None) -> str:
    return f" {source}" if source else ""


def _record(setup: Setup) -> None:
    """Write into the study's folder what was asked."""
    setup.study.record(setup.recipe.as_toml(), device=str(setup.device), code=setup.code)


def _store(setup: Setup, step: str, document: dict[str, Any]) -> None:
    """Keep a step's result; a study whose search has begun keeps the recipe of the search."""
    if not (setup.study.path / "study.db").exists():
        _record(setup)
    setup.study.write(step, document)


def main() -> NoReturn:
    """Run the command line; a problem is one line, a bug is a traceback."""
    try:
        app()
    except CnntuneError as error:
        _could_not_run(error.lines)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, and torch may not be loaded
            _could_not_run(["out of memory: lower train.batch_size or use a smaller model"])
        traceback.print_exc()
        print("this is a bug in cnntune", file=sys.stderr)
        sys.exit(3)
    sys.exit(0)


def _could_not_run(lines: Sequence[str]) -> NoReturn:
    """One line a problem on stderr, a document on stdout if one was asked for, and exit code 2."""
    for line in lines:
        print(line, file=sys.stderr)
    if "--json" in sys.argv:
        name = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        document = Command.begin(name, json=True, quiet=True).document([], None, errors=lines)
        print(json.dumps(document | {"ok": False}, indent=2))
    sys.exit(2)
