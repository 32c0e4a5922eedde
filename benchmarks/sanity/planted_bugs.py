"""Whether `cnntune sanity` finds planted bugs, names their cause, and leaves sound set-ups alone.

Each case is a recipe: one bug in model, loss, data, split, initialisation or settings, or none.
A bug is caught if a finding is `fail` (or `warn`, where somebody may have meant the code), and
named if the rule of such a finding describes its cause. Any `fail` or `warn` about a sound set-up
is a false alarm.

    python benchmarks/sanity/planted_bugs.py [--fast] [--only PATTERN] [--workers 2]

Exits with 1 where fewer than 95 % are caught, fewer than 90 % are named, or there is a false alarm.
"""

import argparse
import fnmatch
import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from planted.cases import BUGS, HEALTHY, KINDS
from planted.parts import RAISED, Case

from cnntune.errors import CnntuneError
from cnntune.findings import Finding
from cnntune.steps import sanity
from cnntune.training.build import load_data
from cnntune.training.open_recipe import load_recipe

CAUGHT_TARGET = 0.95  # of the bugs
NAMED_TARGET = 0.90  # of the bugs
RECIPE = Path(__file__).with_suffix(".toml")
CPU = torch.device("cpu")
CRASHED = "crashed"  # in place of a rule: a bug of cnntune, never counted as a catch


@dataclass(frozen=True)
class Result:
    """What `sanity` said about a case; `seconds` are of building the data and of all checks."""

    case: Case
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def alarms(self) -> list[Finding]:
        """What stops the user, or makes them look again."""
        return [finding for finding in self.findings if finding.severity in ("fail", "warn")]

    @property
    def right(self) -> list[Finding]:
        """The alarms that count, were this a bug."""
        severities = ("fail", "warn") if self.case.legal else ("fail",)
        found = [finding for finding in self.alarms if finding.severity in severities]
        return [finding for finding in found if finding.rule != CRASHED]

    @property
    def caught(self) -> bool:
        """Whether `sanity` stops a user who has this bug."""
        return bool(self.right)

    @property
    def named(self) -> bool:
        """Whether it also says what the bug is; beside a failure a warning may say it."""
        return self.caught and any(finding.rule in self.case.rules for finding in self.alarms)

    @property
    def false_alarms(self) -> list[Finding]:
        """The alarms that do not count as sound judgement, were this healthy."""
        allowed = ("warn",) if self.case.legal else ()
        return [finding for finding in self.alarms if finding.severity not in allowed]


def run(case: Case) -> Result:
    """Check one set-up. A refusal, as exit code 2 at the terminal, counts as the rule `raised`."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    findings: list[Finding] = []
    try:
        recipe = load_recipe(str(RECIPE), case.overrides)
        findings.extend(sanity.check(recipe, load_data(recipe, CPU, checked=False), CPU))
    except CnntuneError as error:
        findings.append(Finding(RAISED, "fail", error.lines[0]))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        name = Path(place.filename).name
        summary = (str(error).splitlines() or [""])[0]
        evidence = f"{type(error).__name__}: {summary} ({name}:{place.lineno})"
        findings.append(Finding(CRASHED, "fail", evidence))
    return Result(case, tuple(findings), time.perf_counter() - start)


def run_all(cases: Sequence[Case], workers: int) -> Iterator[Result]:
    """The results in the order of `cases`."""
    context = multiprocessing.get_context("spawn")  # forked children of a torch process may hang
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(run, cases)


def chosen(cases: Sequence[Case], *, fast: bool, only: Sequence[str]) -> list[Case]:
    return [
        case
        for case in cases
        if (case.fast or not fast)
        and (not only or any(fnmatch.fnmatch(case.name, pattern) for pattern in only))
    ]


def bug_row(result: Result) -> str:
    verdict = "named " if result.named else "caught" if result.caught else "MISSED"
    return row(verdict, result, result.alarms, detailed=not result.named)


def healthy_row(result: Result) -> str:
    verdict = "ALARM " if result.false_alarms else "silent"
    return row(verdict, result, result.alarms, detailed=bool(result.false_alarms))


def row(verdict: str, result: Result, shown: Sequence[Finding], *, detailed: bool) -> str:
    """One line: verdict, name, seconds, rules; below it the evidence where the verdict is bad."""
    rules = ", ".join(f"{finding.rule} {finding.severity}" for finding in shown)
    lines = [f"{verdict}  {result.case.name:45}  {result.seconds:5.1f} s  {rules}".rstrip()]
    if detailed:
        lines += [f"        {finding.rule}: {finding.evidence}" for finding in shown]
        if result.case.rules:
            lines.append(f"        wanted: {', '.join(sorted(result.case.rules))}")
    return "\n".join(lines)


def matrix(bugs: Sequence[Result], healthy: Sequence[Result]) -> tuple[str, bool]:
    """The summary, and whether every target is met."""
    lines = [f"{'':18}   n  caught  named rightly"]
    for kind, cases in KINDS.items():
        of_kind = [result for result in bugs if result.case in cases]
        if of_kind:
            lines.append(count_row(kind, of_kind))
    caught, named = sum(r.caught for r in bugs), sum(r.named for r in bugs)
    if bugs:
        lines.append(count_row("planted bugs", bugs))
        lines.append(f"{'':22}  {caught / len(bugs):6.1%}  {named / len(bugs):13.1%}")
    severities = [{finding.severity for finding in r.false_alarms} for r in healthy]
    failing = sum("fail" in found for found in severities)
    warned = sum(found == {"warn"} for found in severities)
    if healthy:
        lines.append(
            f"{'healthy set-ups':18} {len(healthy):3}  {failing} failed, {warned} warned of"
        )
    crashed = sum(any(f.rule == CRASHED for f in r.findings) for r in (*bugs, *healthy))
    if crashed:
        lines.append(f"cnntune itself crashed on {crashed}")
    met = (
        caught >= CAUGHT_TARGET * len(bugs)
        and named >= NAMED_TARGET * len(bugs)
        and failing + warned + crashed == 0
    )
    lines.append("every target is met" if met else "a target is missed")
    return "\n".join(lines), met


def count_row(label: str, bugs: Sequence[Result]) -> str:
    caught, named = sum(r.caught for r in bugs), sum(r.named for r in bugs)
    return f"{label:18} {len(bugs):3}  {caught:6}  {named:13}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fast", action="store_true", help="a few cases of each kind")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="names, such as 'data-*'"
    )
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    bugs = chosen(BUGS, fast=arguments.fast, only=arguments.only)
    healthy = chosen(HEALTHY, fast=arguments.fast, only=arguments.only)
    if not bugs and not healthy:
        parser.error(f"no case is called {' or '.join(arguments.only)}")
    bug_results: list[Result] = []
    healthy_results: list[Result] = []
    for result in run_all([*bugs, *healthy], arguments.workers):
        if len(bug_results) < len(bugs):
            bug_results.append(result)
            print(bug_row(result), flush=True)
        else:
            healthy_results.append(result)
            print(healthy_row(result), flush=True)
    summary, met = matrix(bug_results, healthy_results)
    print(f"\n{summary}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
