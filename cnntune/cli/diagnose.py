"""Labels and advice for learning curves (step 6)."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnntune.cli.command import Command
from cnntune.cli.options import RUNS, AsJson, Device, Quiet, Runs, Timeout, Workers
from cnntune.errors import RecipeError

if TYPE_CHECKING:
    from cnntune.diagnosis.judge import JudgedRun


def diagnose(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="Runs, studies, logs of other tools, or folders of them."
        ),
    ],
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="CURVE=COLUMN", help="A log's column: val_loss=my_loss."),
    ] = None,
    fail_on: Annotated[
        str, typer.Option(metavar="LABEL,...", help="Exit 1 if a run has one of these labels.")
    ] = "",
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a picture of each run to this folder.")
    ] = None,
    prove: Annotated[
        bool,
        typer.Option(
            "--prove",
            help="Train each change that the advice names against an unchanged control, over"
            " seeds. PATH is one run of cnntune.",
        ),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="With --prove: fresh seeds for each change (default: 3).",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --prove: the first of the fresh seeds (default: one after the run's).",
            show_default=False,
        ),
    ] = None,
    timeout: Timeout = None,
    workers: Workers = "auto",
    device: Device = "auto",
    runs: Runs = RUNS,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Step 6: still improving, overfitting or underfitting? And what to change next.

    --timeout, --workers, --device and --runs are for --prove, which alone trains anything.
    """
    command = Command.begin("diagnose", json=json, quiet=quiet)

    from cnntune.diagnosis import judge
    from cnntune.diagnosis.load_runs import grouped

    mapping, labels = judge.parse_mapping(map_ or ()), judge.parse_labels(fail_on)
    if prove:
        from cnntune.cli.prove import Asked, prove_run

        if mapping:
            raise RecipeError(
                "--map: cannot be combined with --prove: a run of cnntune has no need"
            )
        asked = Asked(paths, runs, seed, seeds, timeout, workers, device)
        judged, skipped, proof, study = prove_run(command, asked)
        findings = [*(run.finding(labels) for run in judged), *proof.findings]
        added: dict[str, Any] = {"proof": proof.document}
    else:
        _refuse_training(seeds=seeds, seed=seed, timeout=timeout, workers=workers, device=device)
        judged, skipped = judge.judge_paths(paths, mapping)
        findings = [run.finding(labels) for run in judged]
        proof, study, added = None, None, {}
    if png is not None:
        _draw(judged, png)
    document = command.document(
        findings, study, runs=[run.as_json() for run in judged], skipped=skipped, **added
    )
    if not json:
        command.screen.diagnoses(judged)
        if proof is not None:
            command.screen.proof(proof.result)
            command.screen.findings(proof.not_in_table)
        for line in grouped(skipped):
            command.screen.text(f"skipped {line}")
    for remark in judge.remarks(judged):
        command.screen.say(remark)
    command.end(document)


def _refuse_training(*, workers: str, device: str, **given: Any) -> None:
    """Refuse options that only training has.

    Raises:
        RecipeError: where one of them is given.
    """
    given |= {"workers": None if workers == "auto" else workers}
    given |= {"device": None if device == "auto" else device}
    if names := [name for name, value in given.items() if value is not None]:
        raise RecipeError(f"--{name}: only with --prove, which trains" for name in names)


def _draw(judged: "Sequence[JudgedRun]", folder: Path) -> None:
    """One picture per run, named after its path so that no two share a name."""
    from cnntune.diagnosis.figures import save_curves

    folder.mkdir(parents=True, exist_ok=True)
    for run in judged:
        name = re.sub(r"[^\w.#-]+", "_", os.path.relpath(run.path)).strip("_.")
        diagnosis = run.diagnosis
        title = f"{run.path}\n{diagnosis.label}: {diagnosis.evidence}"
        picture = folder / f"{name}.png"
        save_curves(run.curve, picture, title=title, best_epoch=diagnosis.best_epoch)
