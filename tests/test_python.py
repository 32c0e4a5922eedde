"""`cnntune` from Python: its public names, the histories of other libraries, and the result."""

import doctest
import html
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from commands import call

import cnntune
from cnntune.errors import DataError, RecipeError

ROOT = Path(__file__).parents[1]
TRAIN = [2.3, 1.9, 1.4, 1.0, 0.7, 0.4, 0.2, 0.1]
VAL = [2.3, 2.0, 1.7, 1.5, 1.45, 1.5, 1.6, 1.8]
HISTORY = {"train_loss": TRAIN, "val_loss": VAL}
EPOCHS = range(1, len(TRAIN) + 1)
PAIRS = list(zip(EPOCHS, TRAIN, VAL, strict=True))


def test_the_public_names_are_these() -> None:
    assert cnntune.__all__ == [
        *("Diagnosed", "FailedError", "Observed", "Result", "Swept", "__version__"),
        *("diagnose", "lr_sweep", "observe", "sanity"),
    ]
    assert all(hasattr(cnntune, name) for name in cnntune.__all__)
    assert issubclass(cnntune.Diagnosed, cnntune.Result)
    with pytest.raises(AttributeError, match="no attribute 'sanitty'"):
        cnntune.sanitty  # noqa: B018


def test_importing_cnntune_loads_no_module_of_it() -> None:
    code = "import sys, cnntune; print([m for m in sys.modules if m.startswith('cnntune.')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_examples_of_the_page_on_python_are_true() -> None:
    found = doctest.testfile(str(ROOT / "docs/python.md"), module_relative=False)
    assert found.failed == 0
    assert found.attempted >= 10


def gaps(missing: Any) -> list[dict[str, Any]]:
    """Two entries per epoch, as Lightning's loggers write them."""
    found: list[dict[str, Any]] = []
    for epoch, train, val in PAIRS:
        step = 50 * epoch - 1
        found.append({"epoch": epoch - 1, "step": step, "train_loss": missing, "val_loss": val})
        found.append({"epoch": epoch - 1, "step": step, "train_loss": train, "val_loss": missing})
    return found


LOG_HISTORY = [
    entry
    for epoch, train, val in PAIRS
    for entry in (
        {"loss": train, "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": epoch, "step": 9 * epoch},
        {"eval_loss": val, "eval_runtime": 0.3, "epoch": epoch, "step": 9 * epoch},
    )
] + [{"train_runtime": 60.0, "train_loss": 1.0, "epoch": 8.0, "step": 72}]
SKORCH = [
    {"batches": [{"train_loss": 9.0}], "epoch": e, "train_loss": t, "train_loss_best": True,
     "valid_loss": v, "valid_loss_best": False, "dur": 0.5}
    for e, t, v in PAIRS
]  # fmt: skip
RECORDER = SimpleNamespace(
    metric_names=["epoch", "train_loss", "valid_loss", "time"], values=[p[1:] for p in PAIRS]
)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(pd.DataFrame(HISTORY), id="pandas"),
        pytest.param(pd.DataFrame(gaps(math.nan)), id="lightning frame"),
        pytest.param(gaps(None), id="lightning, None"),
        pytest.param(gaps(math.nan), id="lightning, NaN"),
        pytest.param(LOG_HISTORY, id="log_history"),
        pytest.param(SimpleNamespace(log_history=LOG_HISTORY), id="TrainerState"),
        pytest.param(SimpleNamespace(state=SimpleNamespace(log_history=LOG_HISTORY)), id="Trainer"),
        pytest.param(SimpleNamespace(history=HISTORY), id="keras history"),
        pytest.param(SimpleNamespace(history=SimpleNamespace(history=HISTORY)), id="keras model"),
        pytest.param(SKORCH, id="skorch history"),
        pytest.param(SimpleNamespace(history=SKORCH), id="skorch net"),
        pytest.param(RECORDER, id="fastai recorder"),
        pytest.param(SimpleNamespace(recorder=RECORDER), id="fastai learner"),
    ],
)
def test_histories_of_other_libraries_are_read_with_every_number(history: Any) -> None:
    found = cnntune.diagnose(history)
    [run] = found.runs
    assert list(run.curve.train_loss) == TRAIN
    assert list(run.curve.val_loss) == VAL
    assert (found.label, found.best_epoch) in (("overfitting", 5.0), ("overfitting", 4.0))


def test_a_logger_of_lightning_is_read_from_its_folder(tmp_path: Path) -> None:
    pd.DataFrame(gaps(math.nan)).to_csv(tmp_path / "metrics.csv", index=False)
    logger = SimpleNamespace(log_dir=str(tmp_path))
    for given in (logger, SimpleNamespace(logger=logger), tmp_path, str(tmp_path / "metrics.csv")):
        assert list(cnntune.diagnose(given).runs[0].curve.val_loss) == VAL


def test_arrays_are_named_by_column_or_by_keyword() -> None:
    array = np.array([TRAIN, VAL]).T
    for found in (
        cnntune.diagnose(array, names=["train_loss", "val_loss"]),
        cnntune.diagnose(train_loss=np.array(TRAIN), val_loss=tuple(VAL)),
        cnntune.diagnose({"a": TRAIN, "b": VAL}, columns={"train_loss": "a", "val_loss": "b"}),
    ):
        assert list(found.runs[0].curve.train_loss) == TRAIN
        assert list(found.runs[0].curve.val_loss) == VAL


@pytest.mark.parametrize(
    ("losses", "evaluations", "note"),
    [
        (6, 3, "taken as an evaluation every 2 of 6 epochs, with 'loss' averaged in between;"),
        (12, 5, "every 2.4 of 12 epochs, with 'loss' averaged in between, which is no whole"),
        (6, 5, "'val_loss' has 5 values and 'loss' 6: both are counted from the first epoch"),
    ],
)
def test_curves_by_keyword_may_differ_in_length_as_those_in_a_dict_do(
    losses: int, evaluations: int, note: str
) -> None:
    curves: dict[str, Any] = {
        "loss": [2 - 0.1 * k for k in range(losses)],
        "val_loss": [2.1 - 0.1 * k for k in range(evaluations)],
    }
    found = cnntune.diagnose(**curves)
    assert found.document == cnntune.diagnose(curves).document
    assert found.epochs == evaluations
    assert note in found.runs[0].run.notes[0]


@pytest.mark.parametrize(
    "history",
    [
        {"loss": ["1,2", "1.0", 0.9, 0.8, None]},
        [{"loss": "1,2"}, {"loss": "1.0"}, {"loss": 0.9}, {"loss": 0.8}, {"loss": "nan"}],
    ],
)
def test_a_text_that_is_no_number_is_noted(history: Any) -> None:
    (run,) = cnntune.diagnose(history).runs
    assert run.run.notes == ("skipped 1 value of 'loss': '1,2' is no number",)


@pytest.mark.parametrize(
    ("given", "more", "line"),
    [
        (np.zeros((3, 2)), {}, "an array of shape [3, 2] needs names=, one per column"),
        (np.zeros((3, 2)), {"names": ["loss"]}, "one name per column: 1 for 2"),
        (np.zeros(3), {"names": ["loss"]}, "name 1-D arrays by keyword"),
        (HISTORY, {"loss": [1, 2]}, "takes a history, or curves by keyword, not both"),
        (None, {"loss": 3.0}, "a curve must be one number per epoch (got 3.0)"),
        (None, {}, "needs a history, a path, or curves by keyword"),
        ("nowhere.csv", {}, "nowhere.csv: no such file or folder"),
        (HISTORY, {"columns": {"val_loss": "x"}}, "no such column; found: train_loss, val_loss"),
    ],
)
def test_what_does_not_fit_together_is_an_error_in_a_line(
    given: Any, more: dict[str, Any], line: str
) -> None:
    with pytest.raises(DataError, match=re.escape(line)):
        cnntune.diagnose(given, **more)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"history": HISTORY, "colums": {"val_loss": "x"}}, "columns"),
        ({"history": HISTORY, "fail": [], "failon": ["overfitting"]}, "fail_on"),
        ({"tran_lss": TRAIN, "val_loss": VAL}, "train_loss"),
    ],
)
def test_a_misspelt_keyword_is_a_type_error_that_names_the_nearest(
    given: dict[str, Any], meant: str
) -> None:
    with pytest.raises(TypeError, match=rf"unexpected keyword .* did you mean '{meant}'"):
        cnntune.diagnose(**given)


def test_a_tensor_with_a_gradient_gives_no_warning() -> None:
    import torch

    curve = [torch.tensor(value, requires_grad=True) for value in TRAIN]
    assert cnntune.diagnose(train_loss=curve, val_loss=VAL).label == "overfitting"


def test_no_number_of_classes_is_inferred_from_a_loss() -> None:
    stuck = [math.log(20)] * 8
    assert "classes" not in str(cnntune.diagnose(train_loss=stuck, val_loss=stuck))


def test_advice_and_errors_have_no_words_of_the_command_line() -> None:
    stuck = cnntune.diagnose(train_loss=[3.3] * 8, val_loss=[3.3] * 8)
    assert "cnntune.lr_sweep" in str(stuck.advice)
    assert not re.search(r"--\w|cnntune [a-z]", " ".join(stuck.advice))
    for wrong in ({"fail_on": "overfit"}, {"columns": {"val": "x"}}):
        with pytest.raises(RecipeError) as error:
            cnntune.diagnose(HISTORY, **wrong)
        assert "--" not in str(error.value)


def test_unknown_labels_and_curves_are_refused() -> None:
    with pytest.raises(RecipeError, match="overfit: must be one of"):
        cnntune.diagnose(HISTORY, fail_on="overfit")
    with pytest.raises(RecipeError, match="'validation' must be one of"):
        cnntune.diagnose(HISTORY, columns={"validation": "val_loss"})


def test_nothing_that_is_given_is_changed() -> None:
    given = [dict(entry) for entry in SKORCH]
    cnntune.diagnose(given)
    assert given == SKORCH


def test_document_and_text_are_those_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.DataFrame(HISTORY).to_csv(tmp_path / "log.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    found = cnntune.diagnose("log.csv", fail_on=["overfitting"])
    words = ("diagnose", "log.csv", "--fail-on", "overfitting")
    assert json.loads(found.to_json()) == call(*words, "--json", cwd=tmp_path).document
    printed = [line.rstrip() for line in call(*words, cwd=tmp_path).out.splitlines()]
    assert str(found).splitlines() == printed


def test_only_a_label_that_should_fail_raises() -> None:
    cnntune.diagnose(HISTORY).raise_if_failed()
    failing = cnntune.diagnose(HISTORY, fail_on="overfitting")
    assert not failing.ok
    with pytest.raises(
        cnntune.FailedError, match=r"^overfitting: val loss rose from 1\.45"
    ) as error:
        failing.raise_if_failed()
    assert [one.severity for one in error.value.findings] == ["fail"]


def shown(found: cnntune.Result) -> ElementTree.Element:
    """The HTML of a result, which is also XML."""
    return ElementTree.fromstring(found._repr_html_().replace("&nbsp;", " "))


def test_a_notebook_shows_curves_evidence_and_advice() -> None:
    found = cnntune.diagnose({**HISTORY, "val_acc": [0.1 * epoch for epoch in EPOCHS]})
    page = shown(found)
    assert [chart.get("aria-label") for chart in page.iter("svg")] == [
        "loss per epoch",
        "accuracy per epoch",
    ]
    words = html.unescape("".join(page.itertext()))
    assert found.evidence in words
    assert all(line in words for line in found.advice)


def test_the_lines_of_a_chart_are_where_the_numbers_are() -> None:
    [chart] = shown(cnntune.diagnose(train_loss=[4.0, 2.0, 1.0])).iter("svg")
    # A frame of 52..310 by 22..156: epoch 2 is half way, a loss of 2 a third of the way up.
    paths = [path.get("d") for path in chart.iter("path")]
    assert "M52.0 22.0L181.0 111.3L310.0 156.0" in paths


def test_text_of_a_log_is_escaped_and_no_colour_of_the_page_is_assumed(tmp_path: Path) -> None:
    name = tmp_path / "<script>alert(1)</script>.csv".replace("/", "_")
    pd.DataFrame(HISTORY).to_csv(name, index=False)
    page = cnntune.diagnose(name)._repr_html_()
    assert "<script" not in page
    assert "background" not in page
    assert 'fill="currentColor"' in page
    assert not re.search(r"#(000|fff|000000|ffffff)\b|black|white(?!-)", page)


def test_a_curve_of_any_numbers_has_a_page() -> None:
    for values in ([math.nan] * 4, [1.0, math.inf, 2.0], [1e-3, 1e9, 1e38], [0.0] * 3, [1.0]):
        assert shown(cnntune.diagnose(loss=values)).tag == "div"


NOTEBOOK = """
import cnntune
cnntune.diagnose({"loss": [2.3, 1.9, 1.4, 1.0], "val_loss": [2.3, 2.0, 1.7, 1.5]})
"""


@pytest.mark.slow
def test_a_notebook_that_is_executed_holds_the_page(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    nbclient.NotebookClient(book, resources={"metadata": {"path": str(tmp_path)}}).execute()
    [output] = book.cells[0].outputs
    assert "<svg" in output["data"]["text/html"]
    assert output["data"]["text/plain"].startswith("run ")
