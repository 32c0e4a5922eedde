"""Everything that is drawn: results on stdout, progress and hints on stderr.

Nothing here computes a verdict. Meaning never rests on colour alone, and a terminal that cannot
print block characters gets plain ones.
"""

import math
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cnntune.cli.plot import ASCII, UNICODE, plot
from cnntune.findings import Finding, Severity
from cnntune.runs.run import Epoch
from cnntune.runs.summary import RESULTS, Ranked, Summary
from cnntune.texts import broken, counted, duration, unwrapped, wrapped

if TYPE_CHECKING:
    from cnntune.diagnosis.judge import JudgedRun
    from cnntune.diagnosis.proven import Proof
    from cnntune.steps.inspect import Inspection
    from cnntune.steps.winner import Candidate
    from cnntune.study.importance import Importance
    from cnntune.study.trial import Trial
    from cnntune.workers.pool import Event

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = "_.-=+*#@"
MARKS: dict[Severity, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "info": ("info", "cyan"),
    "warn": ("WARN", "yellow"),
    "fail": ("FAIL", "bold red"),
}
SKIPPED = "skip"  # a rule that found nothing out, with the reason in its evidence
MARK_WIDTH = max(len(mark) for mark, _ in MARKS.values())
MIN_WIDTH = 36  # characters for the evidence beside mark and rule
READABLE = 88  # characters per line of running text
NARROW = 60  # columns below which names need the space of curves
WIDE = 100  # columns from which curves get more space
ENDLESS = 10_000  # characters, to measure what a table would need
LARGE_LOSS = 1e4  # above it decimals carry no information
PLOT_WIDTH, PLOT_HEIGHT = 100, 14  # characters of a curve drawn large
ACC_HEADING, LOSS_HEADING = "val acc", "val loss"
BEST_ROWS = 10  # trials in a result table: the rest is in the run folders


class Progress(Console):
    """The console of progress and hints: work continues also when nobody reads them."""

    def on_broken_pipe(self) -> None:
        """Called by rich where the reader of stderr went away."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class Result(Console):
    """The console of what was asked for: without a reader there is nothing left to do."""

    def on_broken_pipe(self) -> None:
        """Called by rich where the reader of stdout went away; rich itself would exit with 1."""
        self.quiet = True
        raise  # the BrokenPipeError, for which rich called


class Screen:
    """Two consoles: what was asked for goes to `out`, what happens meanwhile to `err`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.out = Result(file=sys.stdout, highlight=False)  # as it is now: see Command.begin
        self.err = Progress(stderr=True, highlight=False, quiet=quiet)
        encoding = (self.out.encoding or "").lower()
        self.blocks = BLOCKS if encoding.startswith("utf") else PLAIN_BLOCKS

    def say(self, text: str) -> None:
        """A line of progress or a hint."""
        _write(self.err, text, "dim")

    def next(self, *words: str) -> None:
        """The command to type next, on one line however long, so that it can be copied."""
        line = f"next: {shlex.join(['cnntune', *words])}"
        self.err.print(line, style="dim", markup=False, soft_wrap=True)

    def title(self, text: str) -> None:
        """The first line of a result."""
        _write(self.out, text, "bold")

    def text(self, text: str) -> None:
        """A line of a result."""
        _write(self.out, text)

    def lesson(self, text: str) -> None:
        """Paragraphs, in lines that are comfortable to read."""
        for line in wrapped(unwrapped(text), min(self.out.width, READABLE)):
            self.out.print(line, markup=False, soft_wrap=True)

    def findings(self, findings: Sequence[Finding]) -> None:
        """One row per finding: mark, rule, evidence, and below it what to do.

        On a narrow screen the evidence stands below mark and rule.
        """
        rules = max((len(finding.rule) for finding in findings), default=0)
        margin = MARK_WIDTH + 2 + rules + 2
        beside = self.out.width - margin >= MIN_WIDTH
        if not beside:
            margin = 2
        for finding in findings:
            mark, style = MARKS[finding.severity]
            if finding.evidence.startswith("skipped"):  # neither good nor bad: nothing was found
                mark = SKIPPED
            head = Text.assemble((f"{mark:<{MARK_WIDTH}}", style), "  ", f"{finding.rule:<{rules}}")
            width = self.out.width - margin
            lines = [(line, "") for line in wrapped(finding.evidence, width)]
            if finding.advice:
                lines += [(line, "italic") for line in wrapped(f"-> {finding.advice}", width)]
            if beside:
                first, *lines = lines
                head.append(f"  {first[0]}")
            self.out.print(head, soft_wrap=True)
            for line, look in lines:
                self.out.print(Text.assemble(" " * margin, (line, look)), soft_wrap=True)

    def spark(self, values: Sequence[float], *, width: int, low: float, high: float) -> str:
        """A curve in one line of `width` characters at most; `x` marks NaN and infinity."""
        step = max(1, math.ceil(len(values) / width))
        points = [values[start : start + step] for start in range(0, len(values), step)]
        return "".join(self._block(sum(chunk) / len(chunk), low, high) for chunk in points)

    def _block(self, value: float, low: float, high: float) -> str:
        if not math.isfinite(value):
            return "x"
        share = (value - low) / (high - low) if high > low else 0.0
        return self.blocks[min(max(int(share * len(self.blocks)), 0), len(self.blocks) - 1)]

    def sweep(self, curves: Sequence[Mapping[str, Any]], picked: float | None) -> None:
        """One row per learning rate; all losses on one scale, up to a little above the first."""
        table = Table(box=None, pad_edge=False)
        for heading, justify in (("lr", "right"), ("loss", "left"), ("first", "right")):
            table.add_column(heading, justify=justify)  # type: ignore[arg-type]
        table.add_column("last", justify="right")
        table.add_column("verdict")
        firsts = [c["loss_first"] for c in curves if math.isfinite(c["loss_first"])]
        finite = [loss for c in curves for loss in c["losses"] if math.isfinite(loss)]
        low = min([0.0, *finite])  # a loss that can be negative
        high = max(firsts, default=1.0) + 0.1 * (max(firsts, default=1.0) - low)
        width = max(10, min(60, self.out.width - 44))
        for curve in curves:
            mark = "  <- picked" if curve["lr"] == picked else ""
            table.add_row(
                f"{curve['lr']:.2g}",
                self.spark(curve["losses"], width=width, low=low, high=high),
                f"{curve['loss_first']:.3f}",
                f"{curve['loss_last']:.3g}",
                Text((curve["verdict"] or "") + mark, "bold" if mark else ""),
            )
        self.out.print(table)

    def result(self, path: Path, trials: "Sequence[Trial]") -> None:
        """The result of a search or a refinement: counts, then the best trials."""
        statuses = Counter(trial.status for trial in trials)
        self.title(
            f"{path}: " + ", ".join(f"{counted(n, 'trial')} {s}" for s, n in statuses.most_common())
        )
        complete = [trial for trial in trials if trial.status == "complete"]
        best = sorted(complete, key=lambda trial: (-trial.score, trial.val_loss))
        rows = [
            {
                "name": trial.number,
                "status": "",
                "val_acc": trial.summary.val_acc,
                "val_loss": trial.summary.val_loss,
                "ranked": trial.summary.ranked,
                "accs": [row.score for row in trial.run.rows()],
                "values": trial.values,
            }
            for trial in best[:BEST_ROWS]
        ]
        if rows:
            self.out.print(self.trial_table(rows, self.out))
        if len(best) > len(rows):
            self.text(f"... and {len(best) - len(rows)} more in {path}")

    def importance(self, found: "Importance | None") -> None:
        """Which keys the accuracy depends on."""
        if found:
            ordered = sorted(found.shares.items(), key=lambda pair: -pair[1])
            listed = ", ".join(f"{key} {share:.0%}" for key, share in ordered)
            self.text(f"importance, {found.trials} trials after epoch {found.epochs}: {listed}")

    def candidates(self, candidates: "Sequence[Candidate]") -> None:
        """The best trials over fresh seeds, or by the accuracy that selected them."""
        for candidate in candidates:
            ranked = candidate.rival.trial.summary.ranked
            if candidate.mean is None:
                self.text(f"{candidate.name}: {_named(candidate.selected_acc, ranked)}, one seed")
                continue
            accs = " ".join(f"{candidate.logged(acc):.4f}" for acc in candidate.val_accs)
            spread = "" if candidate.shown_sd is None else f" ± {candidate.shown_sd:.4f}"
            self.text(f"{candidate.name}: {_named(candidate.mean, ranked)}{spread}  ({accs})")

    def epoch(self, row: Epoch, epochs: int) -> None:
        """A line of progress for an epoch of a single run."""
        self.say(
            f"epoch {row.epoch}/{epochs}  lr {row.lr:.2g}"
            f"  train {row.train_loss:.4f} {row.train_acc:.4f}"
            f"  val {row.val_loss:.4f} {row.val_acc:.4f}  {row.seconds:.1f} s"
        )

    def summary(self, path: Path, summary: Mapping[str, Any]) -> None:
        """The result of a single run."""
        self.title(f"{path}: {summary['status']} after {counted(summary['epochs'], 'epoch')}")
        if summary["status"] == "complete":
            self.text(
                f"best epoch {summary['best_epoch']}: val acc {summary['val_acc']:.4f},"
                f" val loss {summary['val_loss']:.4f}; weights in best.pt"
            )
        if "test_acc" in summary:
            self.text(
                f"test acc {summary['test_acc']:.4f}, test loss {summary['test_loss']:.4f}"
                f" on {summary['test_images']} images"
            )

    def layers(self, found: "Inspection") -> None:
        """The layer table and its totals."""
        table = Table(box=None, pad_edge=False)
        table.add_column("layer", overflow="fold")
        table.add_column("type", overflow="fold")
        for heading in ("output", "params", "MACs", "RF", "std", "grad"):
            table.add_column(heading, justify="right", no_wrap=True)
        for layer in found.layers:
            table.add_row(
                layer.name,
                layer.type,
                "x".join(map(str, layer.output)),
                engineering(layer.parameters),
                engineering(layer.multiply_adds),
                "" if layer.receptive_field is None else str(layer.receptive_field),
                "" if layer.activation_std is None else f"{layer.activation_std:.2g}",
                "" if layer.gradient_std is None else f"{layer.gradient_std:.1g}",
            )
        self.out.print(table)
        field = f", receptive field {found.receptive_field} px" if found.receptive_field else ""
        self.text(
            f"{found.parameters:,} parameters ({found.head_share:.0%} in the head),"
            f" {found.multiply_adds:,} MACs per image{field}"
        )
        if found.memory is not None:
            measured = found.memory.measured
            seen = f" ({engineering(measured)}B measured)" if measured else ""
            self.text(
                f"a training step: {brief(found.step_seconds)},"
                f" about {engineering(found.memory.total)}B of memory{seen}"
            )

    def trial_table(self, rows: Sequence[Mapping[str, Any]], console: Console) -> RenderableType:
        """`rows` hold `name`, `status`, `val_acc`, `val_loss`, `ranked`, `accs` and `values`.

        Each key has a column where `console` is wide enough; otherwise the values of a trial stand
        in lines of their own, below it.
        """
        keys = list(dict.fromkeys(key for row in rows for key in row["values"]))
        names = [short_name(key, keys) for key in keys]
        endless, results = console.options.update(width=ENDLESS), result_headings(rows)
        for between in (" ", "\n"):  # headings on one line, or one line per word
            table = _results_table(results, [name.replace("_", between) for name in names])
            for row in rows:
                values = (number(row["values"].get(key, "")) for key in keys)
                table.add_row(*self._results_of(row, results), *values)
            if Measurement.get(console, endless, table).maximum <= console.width:
                return table
        table = _results_table(results, ())
        for row in rows:
            table.add_row(*self._results_of(row, results))
        heading, *lines = console.render_lines(table, pad=False)
        parts: list[RenderableType] = [_line(heading)]
        for row, line in zip(rows, lines, strict=True):
            held = zip(keys, names, strict=True)
            values = (f"{n}={number(row['values'][k])}" for k, n in held if k in row["values"])
            texts = wrapped(" ".join(values), console.width - 2)
            parts.append(_line(line))
            parts.extend(Text(f"  {text}", no_wrap=True, overflow="ignore") for text in texts)
        return Group(*parts)

    def _results_of(self, row: Mapping[str, Any], headings: Sequence[str]) -> tuple[str, ...]:
        acc, loss, ranked = (row.get(key) for key in ("val_acc", "val_loss", "ranked"))
        cells = ["" if loss is None else loss_text(loss)] * (LOSS_HEADING in headings)
        if headings[0] == ACC_HEADING:
            first = row["status"] if acc is None else f"{acc:.4f}"
        else:
            first = row["status"] if ranked is None else f"{ranked.value:.4f}"
        return str(row["name"]), first, *cells, self._spark_of(row["accs"])

    def _spark_of(self, scores: Sequence[float]) -> str:
        """Accuracies from 0 to 1; losses, which are negative scores, from worst to best."""
        known = [score for score in scores if math.isfinite(score)]
        beyond = min(known, default=0.0) < 0 or max(known, default=0.0) > 1
        low, high = (min(known), max(known)) if beyond else (0.0, 1.0)
        return self.spark(scores, width=12, low=low, high=high)

    def diagnoses(self, judged: "Sequence[JudgedRun]") -> None:
        """A row per run; then, for each label, evidence and advice of the best run with it.

        A run alone is drawn large.
        """
        paths = [run.path.resolve() for run in judged]
        root = Path(os.path.commonpath(paths)) if judged[1:] else None
        if root:
            shown_root = Path(os.path.relpath(root))
            self.title(f"{shown_root}: {len(judged)} runs, worst first")
        self.out.print(self._diagnosis_table(judged, root))
        by_label: dict[str, JudgedRun] = {}
        for run in judged:
            shown = by_label.get(run.diagnosis.label)
            if shown is None or (run.best_val_acc or 0) > (shown.best_val_acc or 0):
                by_label[run.diagnosis.label] = run
        if len(judged) == 1:
            self._large_curve(judged[0])
        for label, run in by_label.items():
            self.out.print()
            self.out.print(Text.assemble((label, "bold"), f": {run.path}"), soft_wrap=True)
            self.text(run.diagnosis.evidence)
            for line in run.diagnosis.advice:
                _write(self.out, f"-> {line}", "italic")
            if run.command:
                self.out.print(Text(f"   {run.command}", "cyan"), soft_wrap=True)

    def proof(self, proof: "Proof | None") -> None:
        """What each change did against the control, a row per change and start."""
        if proof is None:
            return
        from cnntune.diagnosis.proven import points  # what only `diagnose` needs

        table = Table(box=None, pad_edge=False)
        table.add_column("change", overflow="fold")
        table.add_column("from", no_wrap=True)
        for heading in ("control", "changed", "gain", "95 % points"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("result", no_wrap=True)
        keys = [one.key for one in proof.comparisons]
        for one in proof.comparisons:
            name = short_name(one.key, list(dict.fromkeys(keys)))
            start = "start" if one.start == "beginning" else f"epoch {proof.checkpoint}"
            shown = [f"{sum(a) / len(a):.4f}" if a else "-" for a in (one.control, one.changed)]
            between = f"{points(one.low)}, {points(one.high)}" if one.mean is not None else "-"
            look = "bold green" if one.result == "works" else ""
            result = Text(one.result.replace("-", " "), look)
            table.add_row(
                name + one.change.removeprefix(one.key),
                start,
                *shown,
                points(one.mean),
                between,
                result,
            )
        self.out.print()
        seeds = ", ".join(map(str, proof.seeds))
        self.title(f"proof, {proof.run}: mean validation accuracy over seeds {seeds}")
        self.out.print(table)
        kept = ", ".join(f"{one.key}={number(one.after)}" for one in proof.kept)
        self.text(f"kept: {kept}" if kept else "nothing is kept: no gain whose interval excludes 0")

    def _large_curve(self, run: "JudgedRun") -> None:
        marks = UNICODE if self.blocks == BLOCKS else ASCII
        width = min(self.out.width, PLOT_WIDTH)
        best = run.diagnosis.best_epoch
        self.out.print()
        for line in plot(run.curve, best_epoch=best, width=width, height=PLOT_HEIGHT, marks=marks):
            self.text(line)

    def _diagnosis_table(self, judged: "Sequence[JudgedRun]", root: Path | None) -> Table:
        """Label, confidence, best epoch of all, and both loss curves: in one unit, on one scale."""
        table = Table(box=None, pad_edge=False)
        table.add_column("run", overflow="fold")
        table.add_column("label", no_wrap=True)
        confidence = "confidence" if self.out.width >= WIDE else "conf"  # names need the columns
        for heading in (confidence, "best"):
            table.add_column(heading, justify="right", no_wrap=True)
        width = 8 if self.out.width < WIDE else 20
        curves = self.out.width >= NARROW
        for heading in ("train", "val loss") if curves else ():
            table.add_column(heading, no_wrap=True)
        rows = []
        for run in judged:
            diagnosis, curve = run.diagnosis, run.curve
            shown = (_logged(curve.train_loss), _logged(curve.val_loss)) if curves else ()
            scale = _limits([value for one in shown for value in one])
            ends = (diagnosis.best_epoch, diagnosis.last_epoch)
            rows.append(
                (
                    diagnosis.label,
                    f"{diagnosis.confidence:.0%}",
                    "/".join("-" if at is None else f"{at:g}" for at in ends),
                    *(
                        self.spark(one, width=width, low=low, high=high)
                        for one in shown
                        for low, high in [scale if curve.one_unit else _limits(one)]
                    ),
                )
            )
        headings = [str(column.header) for column in table.columns[1:]]
        taken = sum(1 + max(map(len, column)) for column in zip(headings, *rows, strict=True))
        for run, row in zip(judged, rows, strict=True):
            name = str(run.path.resolve().relative_to(root) if root else run.path)
            table.add_row(Text(broken(name, self.out.width - taken)), *row)
        if not curves:
            self.say(f"the loss curves are left out: they need {NARROW} columns")
        return table


def _write(console: Console, text: str, style: str = "") -> None:
    """A line, broken between words where it is longer than the screen is wide."""
    for line in wrapped(text, console.width):
        console.print(line, style=style, markup=False, soft_wrap=True)


def result_headings(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The names of the results of trials: what ranks them under its own name, if it has one."""
    names = {ranked.name for row in rows if (ranked := row.get("ranked"))}
    ends = [row for row in rows if (row.get("val_acc"), row.get("val_loss")) != (None, None)]
    if len(names) != 1 or not all(row.get("ranked") for row in ends):
        return ACC_HEADING, LOSS_HEADING
    beside = [row["val_loss"] for row in ends if row.get("val_acc") is not None]
    known = any(loss is not None and not math.isnan(loss) for loss in beside)
    return *names, *((LOSS_HEADING,) if known else ())


def _results_table(results: Sequence[str], headings: Sequence[str]) -> Table:
    """The results of trials, and a column for each heading of a key."""
    table = Table(box=None, pad_edge=False)
    table.add_column("trial", no_wrap=True)
    for heading in results:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    for name in headings:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _line(segments: Sequence[Segment]) -> Text:
    return Text.assemble(*((s.text, s.style or "") for s in segments), no_wrap=True)


def _logged(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def short_name(key: str, keys: Sequence[str]) -> str:
    """The last word of a key, where no other key ends in it."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key


def number(value: Any) -> str:
    """A value of a trial in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def loss_text(loss: float) -> str:
    """A loss for a table; `-` for one that went with its files."""
    if math.isnan(loss):
        return "-"
    return f"{loss:.4f}" if loss < LARGE_LOSS else f"{loss:.3g}"


def engineering(count: int) -> str:
    """`138M`: three digits and the thousands as a letter; nothing for 0."""
    value, units = float(count), iter(("", "k", "M", "G", "T"))
    unit = next(units)
    while value >= 999.5:
        value, unit = value / 1000, next(units)
    return f"{value:.3g}{unit}" if count else ""


def brief(seconds: float) -> str:
    """`3.2 ms`, or as `duration` where it takes seconds."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else duration(seconds)


def _named(score: float, ranked: Ranked | None = None) -> str:
    """An accuracy, the loss that a negative score stands for, or what a command is ranked by."""
    if ranked is not None:
        return f"{ranked.name} {ranked.of(score):.4f}"
    return f"val loss {-score:.4f}" if score < 0 else f"val acc {score:.4f}"


def score_text(summary: Summary) -> str:
    """`val acc 0.8123`, or the first other number that a script logs: `val loss 0.4132`."""
    if summary.ranked is not None:
        return f"{summary.ranked.name} {summary.ranked.value:.4f}"
    for key in RESULTS:
        value = getattr(summary, key)
        if value is not None and math.isfinite(value):
            return f"{key.replace('_', ' ')} {value:.4f}"
    return summary.status


class TrialWatch:
    """What a search shows while it runs: a live table in a terminal, else a line per trial."""

    def __init__(self, screen: Screen, total: int, done: int) -> None:
        self.screen, self.total = screen, total
        self.done = self.already = done
        self.running: dict[str, dict[str, Any]] = {}
        self.finished: list[dict[str, Any]] = []
        self.start = time.monotonic()
        live = screen.err.is_terminal and not screen.err.quiet
        self.live = Live(console=screen.err, transient=True, auto_refresh=False) if live else None

    def __enter__(self) -> "TrialWatch":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def started(self, name: str, values: Mapping[str, Any]) -> None:
        """A worker took up the trial."""
        self.running[name] = {"name": name, "status": "running", "values": values, "accs": []}
        self._draw()

    def epoch(self, name: str, val_acc: float) -> None:
        """The trial finished an epoch."""
        self.running[name]["accs"].append(val_acc)
        self._draw()

    def ended(self, name: str, values: Mapping[str, Any], event: "Event") -> None:
        """The trial is over, perhaps without training now: it was pruned."""
        row = self.running.pop(name, {"name": name, "values": values, "accs": []})
        summary = event.summary
        assert summary is not None  # the event is the last of its trial
        taken = f": {event.taken_by} took it over" if event.taken_by else ""
        row |= {"status": f"{summary.status}{taken}"}
        if summary.ranks:
            row |= {"val_acc": summary.val_acc, "val_loss": summary.val_loss}
            row |= {"score": summary.score, "ranked": summary.ranked}
        self.finished.append(row)
        self.done += 1
        self._draw()
        if not self.live:
            result = score_text(summary) if summary.ranks else row["status"]
            drawn = " ".join(f"{k.rpartition('.')[2]}={number(v)}" for k, v in values.items())
            self.screen.say(f"{self._progress()}  {name}  {result}  {drawn}")

    def _progress(self) -> str:
        here = self.done - self.already
        left = self.total - self.done
        elapsed = time.monotonic() - self.start
        eta = f", about {duration(elapsed / here * left)} left" if here and left > 0 else ""
        return f"{self.done}/{self.total} after {duration(elapsed)}{eta}"

    def _draw(self) -> None:
        if not self.live:
            return
        best = sorted(self.finished, key=lambda row: -row.get("score", -math.inf))[:5]
        parts: list[RenderableType] = [
            self.screen.trial_table([*best, *self.running.values()], self.screen.err)
        ]
        self.live.update(Group(Text(self._progress(), "bold"), *parts), refresh=True)
