"""`cnntune report`: one page that needs nothing else and tells a study as it stands."""

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from commands import Outcome, Workflow, call

from cnntune.runs.study import Study
from cnntune.steps.report import charts
from cnntune.steps.report.chapter import Chapter
from cnntune.training.open_recipe import load_recipe

VOID = ("meta", "br", "img", "hr", "link", "input")

SMALL = """
name = "digits"
[data]
name = "digits"
size = 120
[model]
width = 4
depth = 2
[train]
batch_size = 32
[search]
epochs = 2
[space]
train.lr = { log = [1e-3, 1e-1] }
model.norm = { choice = ["batch", "none"] }
"""


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, and texts by the tag around them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.setdefault(self.open[-1], []).append(" ".join(data.split()))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    @property
    def sections(self) -> set[str | None]:
        return {attributes.get("id") for tag, attributes in self.tags if tag == "section"}


def reported(folder: Path, *words: str) -> Page:
    outcome = call("report", *words, cwd=folder)
    assert outcome.code == 0, outcome.err
    page = Page((folder / outcome.out.strip()).read_text(encoding="utf-8"))
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def swept(workflow: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in which nothing was searched yet."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "runs/digits").mkdir(parents=True)
    for file in ("study.json", "recipe.toml", "lr-sweep.json"):
        shutil.copy(workflow.folder / "runs/digits" / file, folder / "runs/digits")
    return folder


@pytest.fixture(scope="module")
def whole(workflow: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a sweep, a sanity check, a search, a refinement over seeds and a final run."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(workflow.folder, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def page(whole: Path) -> Page:
    return reported(whole)


def test_a_page_has_a_section_for_each_thing_that_a_study_holds(whole: Path, page: Page) -> None:
    assert page.sections == {
        *("best", "diagnosis", "search", "refine-1", "lr-sweep", "sanity", "runs", "asked")
    }
    assert page.texts["h1"] == ["digits"]
    assert page.texts["p"][0] == "6 trials in 2 rounds: 6 complete."
    document = json.loads((whole / "runs/digits/refine-1/refine.json").read_text())
    winner = document["candidates"][0]
    assert page.texts["pre"][0] == f"cnntune train {winner['config']}"
    assert f"{winner['mean']:.4f}" in page.texts["td"]
    for change in json.loads((whole / "runs/digits/refine-1/plan.json").read_text())["changes"]:
        assert change in page.texts["li"]
    assert "cnntune refine --budget 2 --epochs 4 --seeds 2 --workers 2 --json" in page.texts["code"]


def test_the_final_test_stands_beside_fresh_seeds_and_what_selected_the_best(
    whole: Path, page: Page
) -> None:
    document = json.loads((whole / "runs/digits/refine-1/refine.json").read_text())
    best = document["candidates"][0]
    low, high = best["interval"]
    looks = json.loads((whole / "runs/digits/test.json").read_text())["looks"]
    words, numbers = page.texts["p"], page.texts["b"]
    assert numbers[:3] == [
        f"{best['mean']:.4f}",
        f"{best['selected_acc']:.4f}",
        f"{looks[0]['test_acc']:.4f}",
    ]
    first = words.index("Over 2 fresh seeds")
    assert words[first + 1] == (
        f", 95 % interval {low:.4f} to {high:.4f} by Student's t; other validation images would"
        f" move it by about {best['image_error']:.4f}."
    )
    assert words[first + 2] == "Selected at accuracy"
    assert words[first + 4] == f"On the test set, evaluated first by {looks[0]['run']}: accuracy"


def test_every_trial_is_a_row_with_its_values_and_its_accuracy(whole: Path, page: Page) -> None:
    cells = page.texts["td"]
    for number in range(4):
        trial = whole / f"runs/digits/trial-{number:04d}"
        summary = json.loads((trial / "summary.json").read_text())
        config = json.loads((trial / "config.json").read_text())
        assert f"{summary['val_acc']:.4f}" in cells
        assert f"{summary['val_loss']:.4f}" in cells
        assert f"{config['train']['lr']:.3g}" in cells
        assert f"{config['model']['dropout']:.3g}" in cells


@pytest.mark.parametrize(
    ("log", "labels"),
    [
        ("[1e-3, 1e-1]", ["0.001", "0.01", "0.1"]),
        ("[1e-6, 1e-2]", ["1e-6", "0.0001", "0.01"]),  # five powers of ten would be crowded
        ("[0.05, 0.2]", ["0.05", "0.2"]),  # less than two: the ends
    ],
)
def test_a_log_axis_has_a_few_plain_numbers(log: str, labels: list[str], tmp_path: Path) -> None:
    recipe = load_recipe("digits", [f"space.train.lr={{ log = {log} }}"])
    chapter = Chapter(Study(tmp_path), recipe, [], {}, None, [], [], [])
    drawn = Page(str(charts.key_scatter(chapter, "train.lr")))
    assert drawn.count("tspan") == 0  # of which an exponent would be made
    texts = drawn.texts["text"]
    assert texts[: texts.index("train.lr")] == labels


def test_a_page_asks_for_nothing_from_elsewhere(page: Page) -> None:
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data", "poster") and value
    ]
    assert links
    assert all(link.startswith("#") for link in links)
    assert page.count("script") == 1
    assert not re.findall(r"url\((?!#)|@import", "".join(page.texts["style"]))
    assert not {"img", "link", "iframe"} & {tag for tag, _ in page.tags}


def test_a_report_changes_nothing_in_the_study(whole: Path, tmp_path: Path) -> None:
    def held() -> dict[Path, bytes]:
        files = sorted(path for path in (whole / "runs").rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.name != "report.html"}

    before = held()
    outcome = call("report", "digits", "--out", str(tmp_path / "page.html"), "--json", cwd=whole)
    assert outcome.document["report"] == str(tmp_path / "page.html")
    assert outcome.document["ok"]
    assert (tmp_path / "page.html").is_file()
    assert held() == before


RAISING = """
from cnntune.models.small import small_cnn

def build(*, num_classes, in_shape, kind="ok"):
    if kind.startswith("<"):
        raise ValueError("</td><script>alert(1)</script> & worse")
    return small_cnn(num_classes=num_classes, in_shape=in_shape, width=2)
"""
FAILING = """
name = "digits"
[data]
name = "digits"
size = 120
[model]
name = "own_net:build"
[train]
batch_size = 32
[search]
epochs = 1
[space]
train.lr = { choice = [0.05, 1e6] }
model.kind = { choice = ["ok", "also", "<b>$x_$</b>"] }
"""


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with trials that failed and that diverged."""
    folder = tmp_path_factory.mktemp("failing")
    (folder / "small.toml").write_text(FAILING)
    (folder / "own_net.py").write_text(RAISING)
    assert call("search", "small.toml", "--budget", "8", "--quiet", cwd=folder).code == 0
    return folder


def test_a_trial_that_failed_is_shown_with_its_cause(failing: Path) -> None:
    page = reported(failing)
    assert {"complete", "diverged", "failed"} <= set(page.texts["span"])
    assert any("ValueError: </td><script>alert(1)" in text for text in page.texts["summary"])


def test_texts_of_a_study_are_never_markup_and_its_own_code_may_be_gone(
    failing: Path, tmp_path: Path
) -> None:
    name = "<script>alert(1)<"
    study = tmp_path / "runs" / name
    shutil.copytree(failing / "runs/digits", study)
    about = json.loads((study / "study.json").read_text()) | {"code": str(tmp_path)}
    (study / "study.json").write_text(json.dumps(about))
    page = reported(tmp_path)
    assert page.texts["h1"] == [name]
    assert page.count("script") == 1
    assert "<b>$x_$</b>" in page.texts["td"]
    assert "<b>$x_$</b>" in page.texts["text"]  # of a picture


def test_a_study_without_a_search_shows_what_there_is(swept: Path) -> None:
    page = reported(swept)
    assert page.sections == {"lr-sweep", "asked"}
    assert "Nothing was searched yet." in page.texts["p"]


def test_a_run_without_a_search_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    call("train", "small.toml", "--set", "train.epochs=2", "--quiet", cwd=tmp_path)
    page = reported(tmp_path)
    assert page.sections == {"diagnosis", "runs", "asked"}
    assert page.count("svg") == 1
    assert "train-0001" in page.texts["td"]


def test_a_study_of_one_trial_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    call("search", "small.toml", "--budget", "1", "--epochs", "1", "--quiet", cwd=tmp_path)
    page = reported(tmp_path)
    assert page.texts["p"][0] == "1 trial: 1 complete."
    assert page.sections == {"best", "diagnosis", "search", "asked"}


def test_trials_that_a_killed_search_left_are_running(whole: Path, tmp_path: Path) -> None:
    study = tmp_path / "runs/digits"
    shutil.copytree(whole / "runs/digits", study, ignore=shutil.ignore_patterns("refine-*"))
    unfinish(study, 1)
    page = reported(tmp_path)
    assert page.texts["p"][0] == "4 trials: 3 complete, 1 running."
    assert "running" in page.texts["span"]


def test_a_study_whose_database_lies_elsewhere_shows_the_trials_in_its_folder(
    whole: Path, tmp_path: Path, page: Page
) -> None:
    study = tmp_path / "runs/digits"
    elsewhere = shutil.ignore_patterns("refine-*", "study.db", "train-*")
    shutil.copytree(whole / "runs/digits", study, ignore=elsewhere)
    (study / "trial-0001" / "summary.json").unlink()
    found = reported(tmp_path)
    assert found.texts["p"][0] == "4 trials: 3 complete, 1 running."
    values = json.loads((study / "trial-0002/config.json").read_text())
    assert f"{values['train']['lr']:.3g}" in found.texts["td"]
    assert f"{values['model']['dropout']:.3g}" in found.texts["td"]


def unfinish(study: Path, number: int) -> None:
    """Make the study as it was before the trial's end was written and recorded."""
    (study / f"trial-{number:04d}" / "summary.json").unlink()
    with sqlite3.connect(study / "study.db") as database:
        database.execute("UPDATE trials SET state = 'RUNNING' WHERE number = ?", (number,))
    database.close()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "nothing: no study of that name in runs; there are: digits"),
        (["digits", "--out", "no/such/page.html"], "no/such/page.html: cannot be written"),
    ],
)
def test_a_page_that_cannot_be_made_is_a_line(whole: Path, words: list[str], told: str) -> None:
    outcome = call("report", *words, cwd=whole)
    assert outcome.code == 2
    assert outcome.err.startswith(told)
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [("sanity.json", "{}"), ("lr-sweep.json", "[1]"), ("test.json", "{"), ("study.json", "{}")],
)
def test_a_file_of_a_study_that_is_something_else_is_a_line(
    swept: Path, tmp_path: Path, file: str, text: str
) -> None:
    shutil.copytree(swept, tmp_path, dirs_exist_ok=True)
    (tmp_path / "runs/digits" / file).write_text(text)
    outcome = call("report", cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith(f"runs/digits/{file}: ")
    assert len(outcome.err.splitlines()) == 1


# What a page adds to itself here tells how wide it is and how its first table is sorted.
MEASURE = """<script>
const [first] = document.querySelectorAll("table.sortable");
const accuracies = () => [...first.tBodies[0].rows].map(row => row.cells[2].innerText);
const heading = [...first.querySelectorAll("th button")].find(one => one.innerText === "val acc");
heading.click();
const up = accuracies();
heading.click();
const found = { wide: document.documentElement.scrollWidth, up, down: accuracies() };
parent.postMessage(JSON.stringify(found), "*");
</script>"""
# A window has a least width, a frame has none.
FRAME = """<title></title><iframe src="page.html" width="{width}" height="900"></iframe>
<script>onmessage = event => {{ document.title = event.data; }};</script>"""


@pytest.fixture
def chromium(tmp_path: Path) -> Callable[[Path], Outcome]:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs chromium: apt-get install chromium")

    def opened(page: Path) -> Outcome:
        words = [found, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        words += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"]
        words += ["--dump-dom", page.as_uri()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return opened


def complaints(outcome: Outcome) -> list[str]:
    return [line for line in outcome.err.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.parametrize("study", ["whole", "failing"])
def test_a_browser_shows_the_page_without_a_complaint(
    study: str, request: pytest.FixtureRequest, chromium: Callable[[Path], Outcome]
) -> None:
    folder = request.getfixturevalue(study)
    reported(folder)
    assert complaints(chromium(folder / "runs/digits/report.html")) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("study", ["whole", "failing"])
def test_a_page_is_no_wider_than_its_window_and_its_tables_can_be_sorted(
    study: str,
    width: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    chromium: Callable[[Path], Outcome],
) -> None:
    folder = request.getfixturevalue(study)
    reported(folder)
    html = (folder / "runs/digits/report.html").read_text(encoding="utf-8")
    open_to_scripts = re.sub(r"<meta http-equiv=.*?>", "", html)
    (tmp_path / "page.html").write_text(open_to_scripts.replace("</body>", f"{MEASURE}</body>"))
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    outcome = chromium(tmp_path / "frame.html")
    title = re.search("<title>(.*)</title>", outcome.out)
    assert title, outcome.err
    found = json.loads(unescape(title[1]))
    assert 0 < found["wide"] <= width
    if study == "whole":  # the failing trials' third column is the cause
        assert len(found["up"]) == 4
        assert found["up"] == sorted(found["up"], key=float)
        assert found["down"] == found["up"][::-1]


@pytest.mark.slow
def test_a_browser_runs_no_script_but_ours(
    whole: Path, page: Page, tmp_path: Path, chromium: Callable[[Path], Outcome]
) -> None:
    html = (whole / "runs/digits/report.html").read_text(encoding="utf-8")
    foreign = tmp_path / "foreign.html"
    foreign.write_text(html.replace("</body>", "<script>document.title = 'owned'</script></body>"))
    outcome = chromium(foreign)
    assert "<title>digits: cnntune report</title>" in outcome.out
    assert complaints(outcome)
