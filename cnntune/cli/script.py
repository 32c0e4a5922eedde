"""`sanity -- COMMAND` and `lr-sweep -- COMMAND`: an unmodified training script."""

import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from cnntune.cli.command import Command
from cnntune.errors import RecipeError, ScriptError
from cnntune.findings import Finding
from cnntune.machine.cpus import cores
from cnntune.script import launch, rules
from cnntune.script.launch import Observed
from cnntune.script.record import Record
from cnntune.script.sweep import FORK, RERUN, REWIND, NotReadyError, Sweep, Tried
from cnntune.steps import sweep_script
from cnntune.steps.sweep_script import ScriptSweep
from cnntune.user_code.failures import advice_on

STEPS = 100  # of each optimizer, as many as `lr-sweep` takes per learning rate
TIMEOUT_SECONDS = 300.0
NO_PYTHON = "no Python was observed: it has to run one, and not in isolated mode (-I, -E, -S)"
NO_STEP = "no step of an optimizer before the time was over"
MAX_FORKS = 4  # learning rates at a time: each has the memory that training takes
METHODS = {
    FORK: "forked at the first step: the same weights and batches for each learning rate",
    REWIND: "the first weights were put back for each learning rate, which had the next batches",
    RERUN: "started once per learning rate, with the same seeds",
}
NO_COMMAND = {  # verbs, and what does their part for a script
    "tune": "type `cnntune search space.toml -- {}`, then `cnntune refine`",
    "train": "the script itself trains; `cnntune refine` prints the command of the best trial",
    "refine": "that of its study is run again; type `cnntune refine STUDY`",
    "report": "type `cnntune report STUDY`",
    "inspect": "it reads a recipe; type `cnntune sanity -- {}`",
    "init": "it reads a folder of images; type `cnntune sanity -- {}`",
}
STOPPED = {
    "ended": "the script ended",
    "steps": "enough steps were seen",
    "validations": "two validations were seen",
    "time": "the time was over",
    "running": "the process was ended from outside",
}


def words_typed(positional: Sequence[str]) -> list[str] | None:
    """The command after `--`; None where none was typed.

    `positional` is what the parser took for arguments, `--` left out.

    Raises:
        RecipeError: where something stands before `--` too, or nothing behind it.
    """
    if "--" not in sys.argv:
        return None
    words = sys.argv[sys.argv.index("--") + 1 :]
    if not words:
        raise RecipeError("--: must be followed by a command, such as -- python train.py")
    if len(positional) != len(words):
        raise RecipeError(f"{positional[0]}: a recipe and a command cannot be combined")
    return words


def refuse_script(verb: str, recipe: str | None) -> None:
    """Say how a training script is given, where one was typed in place of a recipe.

    Raises:
        RecipeError: where it was.
    """
    if recipe is not None and recipe.endswith(".py"):
        raise RecipeError(
            f"{recipe}: is no recipe; for a script, type: cnntune {verb} -- python {recipe}"
        )


def refused_command(typed: Sequence[str]) -> str | None:
    """What to type where a command stands behind `--` of a verb that runs none; None elsewhere.

    `typed` is `sys.argv[1:]`. Paths may stand there too, so only the parser knows that it is wrong.
    """
    verb = next((word for word in typed if not word.startswith("-")), "")
    words = typed[typed.index("--") + 1 :] if "--" in typed else []
    if not words or verb not in NO_COMMAND:
        return None
    return f"{verb}: runs no command: {NO_COMMAND[verb].format(shlex.join(words))}"


def sanity(
    command: Command,
    words: Sequence[str],
    *,
    steps: int,
    timeout: float | None,
    full: bool,
    quiet: bool,
) -> NoReturn:
    """Observe the command, judge what was seen, print it, and leave.

    Raises:
        ScriptError: where it cannot be started, or nothing was seen.
    """
    limit = timeout if timeout is not None else None if full else TIMEOUT_SECONDS
    text = shlex.join(words)
    extent = "to its end" if full else f"for {steps} steps of each optimizer"
    command.begin_work(f"observing {text} {extent}")
    show = (lambda _line: None) if quiet else _to_stderr
    observed = launch.run(words, steps=steps, timeout=limit, full=full, show=show)
    record = _trained(observed)
    if record is None:
        raise _unseen(text, observed, shown=not quiet and not command.json)
    findings = rules.judge(record)
    if observed.code not in (0, None) and record.reason in ("ended", "running"):
        findings.append(_crash(observed, record))
    if not any(finding.severity in ("warn", "fail") for finding in findings):
        done = f"nothing wrong was found in {record.steps} steps ({len(rules.RULES)} rules)"
        findings.insert(0, Finding("loop", "ok", done))
    document = command.document(findings, None, script=_about(text, record, observed))
    if not command.json:
        command.screen.title(f"sanity of {text}")
        command.screen.text(_in_words(record, observed, full=full))
        command.screen.findings([_placed(finding) for finding in findings])
    command.end(document)


def _to_stderr(line: bytes) -> None:
    sys.stderr.flush()
    sys.stderr.buffer.write(line)
    sys.stderr.buffer.flush()


def _trained(observed: Observed) -> Record | None:
    """The process in which most was learned, of several ranks the first."""
    return next((r for r in observed.records if r.steps or r.all("backward")), None)


def _about(text: str, record: Record, observed: Observed) -> dict[str, Any]:
    return {
        "command": text,
        "steps": record.steps,
        "stopped": "time" if observed.code is None else record.reason,
        "framework": record.framework or None,
    }


def _in_words(record: Record, observed: Observed, *, full: bool) -> str:
    """How much was seen, and what was not done."""
    stopped = STOPPED["time" if observed.code is None else record.reason]
    line = f"{record.steps} steps in {record.seconds:.0f} s; {stopped}"
    if record.framework not in ("", "plain"):
        line += f"; {record.framework}"
    if record.cut_from is not None:
        line += f"; passes over loaders were short from step {record.cut_from} on"
    if record.counts.get("saved") and not full:
        line += "; no checkpoint was written"
    return line


def _placed(finding: Finding) -> Finding:
    """The finding with its line of the script in front of the evidence."""
    if not finding.where:
        return finding
    return Finding(
        finding.rule, finding.severity, f"{finding.where}: {finding.evidence}", finding.advice
    )


def _crash(observed: Observed, record: Record) -> Finding:
    """The script raised after some steps; where passes were short, that may be the reason."""
    crash = observed.crash
    printed = next((line for line in reversed(observed.tail) if line.strip()), "no output")
    last = crash.error.splitlines()[0] if crash else printed
    text = f"ended with exit code {observed.code} after {record.steps} steps: {last}"
    if record.cut_from is not None:
        return Finding("exit-code", "info", f"{text} (after passes were made short)")
    where, advice = "", "see the output above"
    if crash and crash.frames:
        where, _, line = crash.frames[-1].partition(": ")
        advice = f"look at `{line}`" if line else advice
    advice = (advice_on(crash.error) if crash else "") or advice
    return Finding("exit-code", "fail", text, advice, where)


def _unseen(text: str, observed: Observed, *, shown: bool) -> ScriptError:
    """Why nothing was seen."""
    if observed.code is None or any(record.reason == "time" for record in observed.records):
        return ScriptError(f"{text}: {NO_STEP}; raise it with --timeout")
    if observed.code != 0:
        reason = f"ended with exit code {observed.code} before the first step of an optimizer"
        reason += "" if observed.pythons else f"; {NO_PYTHON}"
        return ScriptError([f"{text}: {reason}", *_end_of(observed, shown=shown)])
    if not observed.pythons:
        return ScriptError(f"{text}: {NO_PYTHON}")
    if not observed.records:
        return ScriptError(f"{text}: torch was not imported")
    return ScriptError(f"{text}: no loss was differentiated, and no optimizer stepped")


def _end_of(observed: Observed, *, shown: bool) -> Sequence[str]:
    """The user's lines that an exception passed, else the last lines that were printed.

    Those that were `shown` are on stderr already.
    """
    if observed.crash is not None:
        advice = advice_on(observed.crash.error)
        return [*observed.crash.lines(), *([advice] if advice else [])]
    return [] if shown else observed.tail


def lr_sweep(
    command: Command, words: Sequence[str], *, timeout: float | None, quiet: bool
) -> NoReturn:
    """Try learning rates in the loop of the command, print what came of it, and leave.

    Raises:
        ScriptError: where it cannot be started, or its learning rate cannot be set.
    """
    text = shlex.join(words)
    command.begin_work(f"learning rates in the loop of {text}")

    def show(line: bytes) -> None:
        if not quiet and loop.ready is None:  # the same lines again for each process
            _to_stderr(line)

    def heard(tried: Tried) -> None:
        command.screen.say(_tried_in_words(tried))

    loop = Sweep(
        words,
        seconds=TIMEOUT_SECONDS if timeout is None else timeout,
        processes=min(cores(), MAX_FORKS),
        show=show,
        method=os.environ.get("CNNTUNE_METHOD", ""),
    )
    with loop:
        try:
            found = sweep_script.sweep(loop, heard)
        except NotReadyError as error:
            raise _unready(text, error, shown=not quiet and not command.json) from None
    result, ready = found.result, found.ready
    about = {
        "command": text,
        "steps": found.steps,
        "stopped": "ended" if found.ended else "steps",
        "framework": ready.framework,
    }
    document = command.document(
        result.findings,
        None,
        **result.as_json(),
        method=ready.method,
        same_weights=found.same_weights,
        script=about,
    )
    if not command.json:
        command.screen.title(f"learning rates of {text}, {found.steps} iterations each")
        command.screen.text(_sweep_in_words(found))
        command.screen.sweep(result.as_json()["curves"], result.lr)
        command.screen.findings([_placed(finding) for finding in result.findings])
    command.end(document)


def _tried_in_words(tried: Tried) -> str:
    again = f", seed {tried.asked.repeat + 1}" if tried.asked.repeat else ""
    if not tried.losses:
        return f"lr {tried.asked.lr:.2g}{again}: no step; {tried.end}"
    change = f"loss {tried.losses[0]:.3f} -> {tried.losses[-1]:.3g}"
    end = "" if tried.end == "done" else f"; {tried.end}"
    return f"lr {tried.asked.lr:.2g}{again}: {change} in {len(tried.losses)} iterations{end}"


def _sweep_in_words(found: ScriptSweep) -> str:
    """How the learning rates were tried, and what was not as in the script."""
    ready = found.ready
    line = METHODS[ready.method]
    if ready.method != FORK:
        line += f" (no fork: {ready.why})"
    if ready.framework != "plain":
        line += f"; {ready.framework}"
    if not found.same_weights:
        line += (
            "; the first losses differ: seeds do not decide everything in this script, so that"
            " learning rates were compared from different weights or batches"
        )
    if found.ended:
        line += f"; the script ends after {found.steps} steps"
    if found.warm_up:
        line += "; its warm-up was left out"
    return line + "; nothing was saved"


def _unready(text: str, error: NotReadyError, *, shown: bool) -> ScriptError:
    """Why the script never came to its first step."""
    observed = error.observed
    if observed.code == 0 and observed.pythons:
        reason = "no optimizer of PyTorch stepped" if error.torch else "torch was not imported"
        return ScriptError(f"{text}: {reason}")
    return _unseen(text, observed, shown=shown)
