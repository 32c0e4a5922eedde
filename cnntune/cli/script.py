"""`sanity -- COMMAND`: the checks on an unmodified training script."""

import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from cnntune.cli.command import Command
from cnntune.errors import RecipeError, ScriptError
from cnntune.findings import Finding
from cnntune.script import launch, rules
from cnntune.script.launch import Observed
from cnntune.script.record import Record

STEPS = 100  # of each optimizer, as many as `lr-sweep` takes per learning rate
TIMEOUT_SECONDS = 300.0
NO_PYTHON = "no Python was observed: it has to run one, and not in isolated mode (-I, -E, -S)"
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
        raise _unseen(text, observed)
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
    last = next((line for line in reversed(observed.tail) if line.strip()), "no output")
    text = f"ended with exit code {observed.code} after {record.steps} steps: {last}"
    if record.cut_from is not None:
        return Finding("exit-code", "info", f"{text} (after passes were made short)")
    return Finding("exit-code", "fail", text, "see the output above")


def _unseen(text: str, observed: Observed) -> ScriptError:
    """Why nothing was seen."""
    if observed.code is None or any(record.reason == "time" for record in observed.records):
        reason = "no step of an optimizer before the time was over; raise it with --timeout"
    elif observed.code != 0:
        reason = f"ended with exit code {observed.code} before the first step of an optimizer"
        reason += "" if observed.pythons else f"; {NO_PYTHON}"
    elif not observed.pythons:
        reason = NO_PYTHON
    elif not observed.records:
        reason = "torch was not imported"
    else:
        reason = "no loss was differentiated, and no optimizer stepped"
    lines = [f"{text}: {reason}"]
    if observed.code != 0:
        lines += observed.tail
    return ScriptError(lines)
