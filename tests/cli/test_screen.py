"""What is drawn stays readable and can be pasted, however narrow the screen."""

import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import call

from cnntune.cli.command import Command
from cnntune.cli.screen import Screen, TrialWatch
from cnntune.cli.session import watch
from cnntune.config.recipe import parse
from cnntune.findings import Finding
from cnntune.runs.run import Epoch, NotLogged, Run
from cnntune.runs.summary import Ranked, Summary
from cnntune.texts import broken, counted, unwrapped, wrapped
from cnntune.workers.pool import Event, Job

OPTION = "--set 'space.train.lr={ log = [1e-05, 0.1] }'"


def test_lines_break_between_words_and_never_within_a_command() -> None:
    text = f"widen it in a study of its own: --study NAME {OPTION} and run `cnntune lr-sweep` again"
    assert wrapped(text, 30) == [
        "widen it in a study of its",
        "own: --study NAME",
        OPTION,
        "and run `cnntune lr-sweep`",
        "again",
    ]


def test_an_apostrophe_opens_no_quotation() -> None:
    assert wrapped("Karpathy's recipe and CS231n's steps", 20) == [
        "Karpathy's recipe",
        "and CS231n's steps",
    ]


def test_what_fits_stays_as_it_is() -> None:
    assert wrapped("  a   b\nc", 10) == ["  a   b", "c"]
    assert wrapped("", 10) == [""]


def test_a_path_breaks_after_a_slash_or_a_dash() -> None:
    assert broken("refine-1/trial-0000-seed-1", 12) == "refine-1/\ntrial-0000-\nseed-1"
    assert broken("refine-1/trial-0000-seed-1", 26) == "refine-1/trial-0000-seed-1"
    assert broken("a-verylongword/b", 5) == "a-\nverylongword/\nb"


def test_a_docstring_becomes_paragraphs_and_its_lists_stay() -> None:
    assert unwrapped("one\ntwo\n\nthree\n- four\n    five") == "one two\n\nthree\n- four\n    five"


def test_one_is_not_plural() -> None:
    assert (counted(1, "trial"), counted(2, "trial")) == ("1 trial", "2 trials")


def drawn(width: int, monkeypatch: pytest.MonkeyPatch, draw: Any) -> list[str]:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("COLUMNS", str(width))
    draw(Screen())
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_command_of_a_finding_is_never_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("edge", "warn", "the best train.lr lies at the upper end", f"try {OPTION}")
    lines = drawn(width, monkeypatch, lambda screen: screen.findings([finding]))
    assert any(OPTION in line for line in lines)
    assert lines[0].startswith("WARN  edge")
    within = [line for line in lines if OPTION not in line]
    assert max(map(len, within)) <= width


KEYS = [f"train.key_number_{letter}" for letter in "abcdefghij"]


@pytest.mark.parametrize("width", [40, 80, 300])
def test_ten_keys_are_readable_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = dict.fromkeys(KEYS, 0.0123)
    rows = [{"name": 0, "val_acc": 0.5, "val_loss": 1e12, "accs": [0.5], "values": values}]
    lines = drawn(
        width, monkeypatch, lambda screen: screen.out.print(screen.trial_table(rows, screen.out))
    )
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    assert "…" not in text
    assert text.count("0.0123") == 10
    assert "1e+12" in text
    if width < 300:
        assert all(f"{key.rpartition('.')[2]}=0.0123" in text for key in KEYS)
    else:
        assert re.search(r"key number a +key number b", lines[0])


def test_headings_take_a_line_a_word_before_anything_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"train.label_smoothing": 0.0123456, "train.weight_decay": 3.95e-05, "model.width": 8}
    row = {"name": 0, "val_acc": 0.5, "val_loss": 1.0, "accs": [0.5] * 3, "values": values}
    # trial 5, val acc 7, val loss 8, curve 5, smoothing 9, 3.95e-05 8, width 5, six gaps of 2: 59
    for width, lines in ((59, 3), (58, 3)):
        shown = drawn(width, monkeypatch, lambda s: s.out.print(s.trial_table([row], s.out)))
        assert len(shown) == lines
        assert ("label_smoothing=0.0123" in shown[-1]) == (width == 58)
        assert "3.95e-05" in shown[-1]


def events_of(folders: list[Path], ended: list[str]) -> Iterator[Event]:
    """Runs that are trained at the same time, one epoch each."""
    jobs = [Job(0, parse({}, file="test"), folder) for folder in folders]
    row = Epoch(1, 0.01, 1.0, 0.5, 1.0, 0.5, 1.0, 1.0)
    try:
        yield from (Event(job) for job in jobs)
        for job in jobs:
            Run(job.folder).begin(parse({}, file="test").as_values())
            yield Event(job, epoch=row)
            yield Event(job, summary=Summary("complete", val_acc=0.5, val_loss=1.0))
    finally:
        ended.append("closed")


def test_repeats_of_two_rounds_with_the_same_folder_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / f"refine-{number}" / "trial-0000-seed-1" for number in (1, 2)]
    command = Command("tune", json=False, screen=Screen(quiet=False))
    watch(command, parse({}, file="test"), events_of(folders, []), total=2, done=0)
    said = capsys.readouterr().err
    assert "refine-1/trial-0000-seed-1" in said
    assert "refine-2/trial-0000-seed-1" in said


def test_a_search_that_cannot_be_drawn_ends_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    ended: list[str] = []
    monkeypatch.setattr(TrialWatch, "epoch", broken)
    command = Command("search", json=False, screen=Screen(quiet=True))
    events = events_of([tmp_path / "trial-0000"], ended)
    with pytest.raises(ZeroDivisionError):
        watch(command, parse({}, file="test"), events, total=1, done=0)
    assert ended == ["closed"]


def test_a_loss_that_went_with_its_files_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {"name": 0, "val_acc": 0.5, "val_loss": math.nan, "accs": [], "values": {"train.lr": 1}}

    def draw(screen: Screen) -> None:
        screen.out.print(screen.trial_table([gone], screen.out))

    assert drawn(80, monkeypatch, draw)[1].split() == ["0", "0.5000", "-", "1"]


@pytest.mark.parametrize("columns", [40, 60])
def test_names_of_runs_break_between_words_and_curves_without_room_are_said_to_be_left_out(
    tmp_path: Path,
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [f"refine-1/trial-000{number}-seed-1" for number in (0, 1)]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        losses = "".join(f"{epoch},{2 / epoch},{2.1 / epoch}\n" for epoch in range(1, 9))
        (tmp_path / name / "log.csv").write_text(f"epoch,train_loss,val_loss\n{losses}")
    monkeypatch.setenv("COLUMNS", str(columns))
    outcome = call("diagnose", str(tmp_path), cwd=tmp_path)
    lines = outcome.out.splitlines()
    told = [line.split()[0] for line in lines[2 : lines.index("")]]
    assert all(re.fullmatch(r"((log|refine|trial|\d+|seed|csv)[-/.]?)+", piece) for piece in told)
    assert ("train" in lines[1]) == (columns == 60)
    left_out = "the loss curves are left out: they need 60 columns"
    assert (left_out in " ".join(outcome.err.split())) == (columns == 40)


def test_what_ranks_a_command_has_a_column_of_its_name() -> None:
    def row(name: int, reward: float) -> dict[str, Any]:
        ranked = Ranked("reward", reward)
        results = {"status": "", "val_loss": -reward, "ranked": ranked, "values": {}}
        return {"name": name, "accs": [0.0, reward], **results}

    screen = Screen()
    with screen.out.capture() as drawn:
        screen.out.print(screen.trial_table([row(0, 90.0), row(1, 100.5)], screen.out))
    heading, first, second = drawn.get().splitlines()
    assert heading.split() == ["trial", "reward", "curve"]
    assert first.split()[:2] == ["0", "90.0000"]
    assert second.split()[:2] == ["1", "100.5000"]


def test_a_curve_that_was_not_logged_is_drawn_as_nothing(tmp_path: Path) -> None:
    none, run = NotLogged(), Run(tmp_path / "run")
    run.begin({})
    for epoch, loss in enumerate((-10.0, -20.0, -30.0), 1):
        run.log(Epoch(epoch, none, none, none, loss, none, none, 1.0))
    shown = call("diagnose", "run", cwd=tmp_path).out
    (row,) = [line for line in shown.splitlines() if "3/3" in line]
    assert row.split("3/3")[1].split() != []
    assert "x" not in row.split("3/3")[1]
