"""The console blocks of README.md and docs/tour.md are what the commands print."""

from pathlib import Path

import console_blocks
import pytest
from console_blocks import Block, blocks, differences, printed_by, write_files

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/tour.md")
REFRESH = "run: python docs/write_console.py"


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


QUICK = [(name, block) for name in PAGES for block in blocks(page(name)) if block.quick]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        # what loads torch only prints, and takes seconds; the whole page is a slow test too
        pytest.param(*case, marks=[pytest.mark.slow] if "sanity" in case[1].command else [])
        for case in QUICK
    ],
    ids=[block.command for _, block in QUICK],
)
def test_a_block_that_trains_nothing_says_what_the_command_prints(
    name: str, block: Block, tmp_path: Path
) -> None:
    write_files(page(name), tmp_path)
    assert not differences(block.printed, printed_by(block.command, tmp_path)), REFRESH


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_run_in_its_order_and_print_what_it_says(
    name: str, tmp_path: Path
) -> None:
    write_files(page(name), tmp_path)
    for block in blocks(page(name)):
        differ = differences(block.printed, printed_by(block.command, tmp_path))
        assert not differ, f"{block.command}; {REFRESH}"


SWEEP = """\
learning rates of digits, 100 iterations each
  rate  loss      first    last  verdict
   0.3  ██▇▆▅▄▃▂  2.328  0.0932  decreasing  <- picked
  0.01  ██████▇▇  2.328     1.7  slow
ok    lr-sweep  rate 0.3: loss 2.328 -> 0.0932 in 100 steps, stable over 3
                seeds
                -> --set train.lr=0.3
"""


def test_numbers_drawings_verdicts_rows_and_line_breaks_may_differ() -> None:
    assert not differences(
        SWEEP,
        """\
learning rates of digits, 300 iterations each
  rate  loss      first    last  verdict
   0.1  ▁▂▃▄       2.31     0.2  decreasing  <- picked
     1  ▁▂▃▄       2.31     inf  diverged
  0.01  ▁▂▃▄       2.31     1.9  slow
 0.001  ▁▂▃▄       2.31     2.3  flat
ok    lr-sweep  rate 0.1: loss 2.31 -> 0.2 in 300 steps, stable over 3 seeds
                -> --set train.lr=0.1
""",
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("learning rates of", "rates of"),
        ("verdict", "result"),
        ("<- picked", "<- best"),
        ("slow", "sluggish"),
        ("ok  ", "warn"),
        ("lr-sweep", "lr-range"),
        ("seeds", "fresh seeds"),
        ("--set train.lr", "--set optimizer.lr"),
        ("stable over 3\n", "unstable over 3\n"),
    ],
)
def test_a_word_that_differs_is_found_wherever_it_stands(old: str, new: str) -> None:
    assert differences(SWEEP, SWEEP.replace(old, new))
    assert differences(SWEEP.replace(old, new), SWEEP)


def test_a_difference_names_the_words() -> None:
    changed = differences("loss 2.3 is too high\n", "loss 2.4 is very high\n")
    assert [line for line in changed if line[0] in "+-"] == ["-too", "+very"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("val acc 0.9963 ± 0.0016  (0.9972 0.9944)", "val acc # ± # (#)"),
        ("train.batch_size: 32 | 64 | 128 became 32 | 64", "train.batch_size: # became #"),
        ("refine-1/trial-0003: -1e-05, 0.5 of 1,079.", "refine-#/trial-#: # of #."),
        ("3x32x32 images, 10 classes; log(10)", "# images, # classes; log(#)"),
        ("a step takes 12.5 ms and 1.2 GiB", "a step takes # and #"),
        ("a step takes 1.2 s and 800 MiB", "a step takes # and #"),
        ("the loss is nan, the banana is not", "the loss is #, the banana is not"),
        ("resnet18 on cifar10, bfloat16", "resnet18 on cifar10, bfloat16"),
    ],
)
def test_a_figure_is_one_sign_and_a_name_with_a_digit_stays(line: str, expected: str) -> None:
    assert " ".join(console_blocks.words(line)) == expected


PAGE = """\
Text.
```toml title="cnntune.toml"
name = "digits"
```
```console
$ cnntune sanity
old
```
```python
not_a_file()
```
```console
$ cnntune diagnose log.csv
```
"""


def test_blocks_are_found_with_their_commands_and_files_with_their_titles(tmp_path: Path) -> None:
    first, second = blocks(PAGE)
    assert (first.command, first.printed, first.quick) == ("cnntune sanity", "old\n", False)
    assert (second.command, second.printed, second.quick) == ("cnntune diagnose log.csv", "", True)
    write_files(PAGE, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["cnntune.toml"]
    assert (tmp_path / "cnntune.toml").read_text() == 'name = "digits"\n'


def test_a_page_is_rewritten_in_place_and_nothing_else_of_it_changes() -> None:
    new = console_blocks.rewritten(PAGE, ["one\ntwo\n", "three\n"])
    assert new == PAGE.replace("old\n", "one\ntwo\n").replace("log.csv\n", "log.csv\nthree\n")


def test_a_block_without_a_command_or_with_two_is_refused() -> None:
    with pytest.raises(ValueError, match="one command"):
        blocks("```console\nonly output\n```\n")
    with pytest.raises(ValueError, match="one command"):
        blocks("```console\n$ cnntune sanity\nfine\n$ cnntune refine\n```\n")


def test_a_command_that_could_not_run_is_told_with_its_message(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit code 2"):
        printed_by("cnntune sanity nosuch", tmp_path)
