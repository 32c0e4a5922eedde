"""`diagnose --prove`: from a run and its diagnosis to trained changes and what they show."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnntune.cli.command import Command, Setup, set_up
from cnntune.cli.session import decide, watch
from cnntune.errors import StudyError
from cnntune.findings import Finding
from cnntune.machine.clock import Deadline
from cnntune.runs.run import Run
from cnntune.runs.study import Study
from cnntune.workers import processes

if TYPE_CHECKING:
    from cnntune.diagnosis.judge import JudgedRun
    from cnntune.diagnosis.proven import Proof
    from cnntune.steps.prove import Experiment


@dataclass(frozen=True)
class Asked:
    """What was typed after `diagnose --prove`; None where an option was left out."""

    paths: Sequence[Path]
    runs: Path
    seed: int | None
    seeds: int | None
    timeout: float | None
    workers: str
    device: str


@dataclass(frozen=True)
class Proven:
    """What a proof adds to the document and the screen; without a result nothing was trained."""

    result: "Proof | None"
    findings: list[Finding] = field(default_factory=list)

    @property
    def not_in_table(self) -> list[Finding]:
        """The findings that the table of comparisons does not show: why something is missing."""
        return [one for one in self.findings if self.result is None or one.severity == "warn"]

    @property
    def document(self) -> dict[str, Any] | None:
        """The key `proof` of the document."""
        return self.result.as_json() if self.result else None


def prove_run(
    command: Command, asked: Asked
) -> "tuple[list[JudgedRun], list[dict[str, str]], Proven, Study]":
    """Train what a run's advice prescribes, store what it shows, and diagnose the run with it.

    Raises:
        StudyError: where the path is no run of cnntune.
    """
    deadline = Deadline.after(asked.timeout)
    folder = _run_folder(asked.paths, asked.runs)
    processes.prepare()

    from cnntune.diagnosis import judge
    from cnntune.steps import prove as step

    judged = judge.judge_in_study(folder)
    setup = set_up(
        command,
        str(folder / "config.json"),
        None,
        device=asked.device,
        seed=None,
        runs=asked.runs,
        study=None,
    )
    first = setup.recipe.seed + 1 if asked.seed is None else asked.seed
    seeds = range(first, first + (asked.seeds or step.SEEDS))
    experiment = step.design(Run(folder), setup.recipe, judged.diagnosis, seeds)
    if not experiment.cures:
        nothing = step.nothing_to_prove(judged.diagnosis, str(folder))
        return [judged], [], Proven(None, [nothing]), experiment.study
    command.begin_log(experiment.study, setup.device_name)
    _train(command, setup, experiment, asked.workers, deadline)
    proof = step.result(experiment)
    step.store(experiment.study, proof)
    found = Proven(proof, step.findings(proof, str(folder)))
    return [judge.judge_in_study(folder)], [], found, experiment.study


def _train(
    command: Command, setup: Setup, experiment: "Experiment", workers: str, deadline: Deadline
) -> None:
    """Train the runs that are left, showing what happens."""
    from cnntune.steps import prove as step
    from cnntune.workers.capacity import parse_workers

    asked = parse_workers(workers)
    jobs = step.to_train(experiment)
    if not jobs or deadline.passed:
        return
    plan = decide(command, experiment.searched, setup.trial_devices, asked, None)
    command.screen.say(step.size(experiment, jobs))
    values = {"train.precision": plan.precision, "data.stream": plan.stream}
    events = step.prove(
        experiment,
        jobs,
        values=values,
        workers=plan.workers,
        places=setup.trial_devices,
        deadline=deadline,
    )
    watch(command, experiment.searched, events, total=len(jobs), done=0)


def _run_folder(paths: Sequence[Path], runs: Path) -> Path:
    """The one run that is named, by its folder or a file in it, perhaps below `runs`.

    Raises:
        StudyError: where it is no run of cnntune, or there are several.
    """
    from cnntune.diagnosis.load_runs import is_ours

    if len(paths) != 1:
        raise StudyError(f"--prove: must be given one run of cnntune (got {len(paths)} paths)")
    named = paths[0] if paths[0].exists() else runs / paths[0]
    folder = named.parent if named.name in ("config.json", "metrics.csv") else named
    if not folder.exists():
        raise StudyError(f"{paths[0]}: no such run")
    if not is_ours(folder):
        raise StudyError(
            f"{paths[0]}: is no run of cnntune, whose folder has a config.json and a metrics.csv;"
            " --prove trains a run's recipe, such as runs/digits/trial-0007"
        )
    if not (folder / "config.json").is_file():
        raise StudyError(f"{folder}: its config.json is missing, without which nothing is trained")
    return folder
