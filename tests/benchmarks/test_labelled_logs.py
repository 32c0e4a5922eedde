"""The benchmark of labelled logs counts what it says, on a folder of two logs made here."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "benchmarks" / "diagnosis" / "labelled_logs.py"
LABELS = """file,label,also,source
falls.csv,still-improving,converged,one/repository
turns.csv,converged,overfitting,other/repository
gone.csv,unstable,,third/repository
odd.csv,ambiguous,,fourth/repository
"""


def test_agreement_is_counted_per_log_and_what_was_not_read_counts_as_wrong(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(LABELS)
    falls = [f"{n},{2 - 0.1 * n},{2.1 - 0.1 * n}" for n in range(1, 13)]
    turns = [f"{n},{2 / n},{1 + abs(n - 4) / 5}" for n in range(1, 13)]
    for name, rows in (("falls", falls), ("turns", turns)):
        text = "\n".join(["epoch,train_loss,val_loss", *rows])
        (tmp_path / f"{name}.csv").write_text(text + "\n")
    done = subprocess.run(
        [sys.executable, str(BENCH), str(tmp_path)], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    # Of three labels the first agrees; the second is one that an expert would accept. F1 is 1 for
    # "still-improving" and 0 for the other four labels.
    assert lines[0] == "strict, lenient, macro-F1:"
    assert lines[3].startswith(f"| {tmp_path} | 3 | 1 | 33.3%, 66.7%, 0.20 | ")
    assert lines[4].startswith("| all | 3 | 1 | 33.3%, 66.7%, 0.20 | ")
    assert "| converged | 1 | 0 | 0 |" in lines  # it was said to be overfitting
    assert "| unstable | 0 | 0 | 1 |" in lines  # it was not read


def test_the_table_of_confidences_is_written_between_the_marks_and_nowhere_else(
    tmp_path: Path,
) -> None:
    (tmp_path / "labels.csv").write_text("file,label,also,source\nfalls.csv,still-improving,,one\n")
    falls = [f"{n},{2 - 0.1 * n},{2.1 - 0.1 * n}" for n in range(1, 13)]
    text = "\n".join(["epoch,train_loss,val_loss", *falls])
    (tmp_path / "falls.csv").write_text(text + "\n")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- reliability -->\nold\n<!-- end of reliability -->\nafter\n")
    command = [sys.executable, str(BENCH), str(tmp_path), "--write", str(page)]
    subprocess.run(command, capture_output=True, check=True)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1], "old" in lines) == ("before", "after", False)
    # A fall of 0.5 over the last five points is ten times the limit, 5 % of a range of 1.0.
    assert lines[2:-2] == [
        "| confidence | runs | the label itself | accepted |",
        "|---|---|---|---|",
        "| 0.9 to 1.0 | 1 | 100% | 100% |",
    ]
