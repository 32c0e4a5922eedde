"""Recipes: every problem at once, in the user's own keys, before anything is trained."""

import json
import sys
from pathlib import Path

import pytest

from cnntune.config import files
from cnntune.config.files import parse_override
from cnntune.config.recipe import Recipe, differences, parse, space_findings, stored
from cnntune.config.space import Choice, Range
from cnntune.errors import RecipeError, UserCodeError
from cnntune.training.build import with_defaults
from cnntune.training.open_recipe import argument_types, load_recipe

OWN_MODEL = """
from torch import nn

def build(*, num_classes: int, in_shape: tuple[int, int, int], width: int, gain: float = 1.0):
    return nn.Flatten()

def build_any(*, num_classes, in_shape, **arguments):
    return nn.Flatten()
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def load(text: str, *overrides: str, file: str = "r.toml") -> Recipe:
    Path(file).write_text(text)
    return load_recipe(file, overrides)


def problems(text: str, *overrides: str, file: str = "r.toml") -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides, file=file)
    return caught.value.lines


def problem(text: str, *overrides: str, file: str = "r.toml") -> str:
    (line,) = problems(text, *overrides, file=file)
    return line


def test_all_problems_are_reported_at_once_one_line_each() -> None:
    text = """
    seed = -1
    [data]
    val_fraction = 2.0
    [model]
    widht = 8
    [train]
    lr = -0.1
    optimizer = "sdg"
    [space]
    train.momentum = { uniform = [0.5, 1.5] }
    """
    assert sorted(line.split(": ")[1] for line in problems(text)) == [
        "data.val_fraction",
        "model.widht",
        "seed",
        "space.train.momentum",
        "train.lr",
        "train.optimizer",
    ]


def test_a_number_out_of_range_names_file_key_limit_and_what_was_found() -> None:
    assert problem("[train]\nlr = -0.1") == "r.toml: train.lr: must be > 0 (got -0.1)"


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("[trian]\nlr = 1.0", "trian", "train"),
        ("[train]\nlearning_rat = 1.0\nmomentun = 0.5", "train.momentun", "momentum"),
        ("[train]\noptimizer = 'sdg'", "train.optimizer", "sgd"),
        ("[train]\nschedule = 'cosin'", "train.schedule", "cosine"),
        ("[augment]\nflipp = true", "augment.flipp", "flip"),
        ("[data]\nname = 'digit'", "data.name", "digits"),
        ("[data]\nval_fractoin = 0.1", "data.val_fractoin", "val_fraction"),
        ("[model]\nname = 'small-cn'", "model.name", "small-cnn"),
        ("[model]\nname = 'resnet81'", "model.name", "resnet18"),
        ("[model]\nwidht = 8", "model.widht", "width"),
        ("[model]\nnorm = 'bacth'", "model.norm", "batch"),
        ("[space]\ntrain.lrr = { log = [1e-4, 1e-1] }", "space.train.lrr", "lr"),
    ],
)
def test_a_slip_of_the_pen_is_answered_with_the_word_that_was_meant(
    text: str, key: str, meant: str
) -> None:
    (line,) = [line for line in problems(text) if line.startswith(f"r.toml: {key}: ")]
    assert f"did you mean '{meant}'?" in line


def test_a_word_unlike_any_other_is_answered_with_the_allowed_ones_alone() -> None:
    line = problem("[train]\noptimizer = 'zzz'")
    assert line == "r.toml: train.optimizer: must be one of sgd, adam, adamw (got 'zzz')"


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ('seed = "8"', "seed", "must be an integer (got '8')"),
        ("seed = true", "seed", "must be an integer (got True)"),
        ("seed = 1.0", "seed", "must be an integer (got 1.0)"),
        ("name = 3", "name", "must be a string in quotes (got 3)"),
        ("data = [1]", "data", "must be a table (got [1])"),
        ("train = 3", "train", "must be a table (got 3)"),
        ("space = 4", "space", "must be a table (got 4)"),
        ('train.lr = "0.1"', "train.lr", "must be a number (got '0.1')"),
        ("train.lr = true", "train.lr", "must be a number (got True)"),
        ("train.lr = nan", "train.lr", "must be finite (got nan)"),
        ("train.lr = inf", "train.lr", "must be finite (got inf)"),
        ("train.batch_size = 8.0", "train.batch_size", "must be an integer (got 8.0)"),
        ("train.momentum = 1", "train.momentum", "must be < 1 (got 1)"),
        ("augment.flip = 1", "augment.flip", "must be true or false (got 1)"),
        ('model.width = "8"', "model.width", "must be an integer (got '8')"),
        ("model.width = true", "model.width", "must be an integer (got True)"),
        ("model.width = 8.0", "model.width", "must be an integer (got 8.0)"),
        ("model.width = 0", "model.width", "must be >= 1 (got 0)"),
        ("model.dropout = true", "model.dropout", "must be a number (got True)"),
        ('data.val_fraction = "0.1"', "data.val_fraction", "must be a number (got '0.1')"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_and_never_converted(
    line: str, key: str, message: str
) -> None:
    assert problem(line) == f"r.toml: {key}: {message}"


def test_a_whole_number_stands_for_a_number() -> None:
    assert load("train.lr = 1").train.lr == 1.0


@pytest.mark.parametrize("file", ["a b.toml", "ümlaut.toml", "x" * 65 + ".toml"])
def test_a_name_that_is_no_folder_name_is_refused(file: str) -> None:
    assert "name: must be letters, digits, '.', '_' and '-', 64 at most" in problem("", file=file)


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "", "a\\nb"])
def test_a_name_cannot_leave_the_folder_of_runs(name: str) -> None:
    assert problem(f'name = "{name}"').startswith("r.toml: name: must be letters")


def test_a_recipe_without_a_name_is_named_after_its_file() -> None:
    assert load("", file="my-flowers.toml").name == "my-flowers"


# --set


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.lr=0.01", "train.lr", 0.01),
        ("train.lr = 1e-3", "train.lr", 1e-3),
        ("augment.flip=true", "augment.flip", True),
        ("train.optimizer=adam", "train.optimizer", "adam"),
        ("train.optimizer='adam'", "train.optimizer", "adam"),
        ("data.path=./a/b", "data.path", "./a/b"),
        ("model.name=my_pkg.models:build", "model.name", "my_pkg.models:build"),
        ("space.train.lr={ log = [1e-4, 1] }", "space.train.lr", {"log": [1e-4, 1]}),
        ("data.path='a=b'", "data.path", "a=b"),
    ],
)
def test_set_takes_toml_values_and_bare_words(text: str, key: str, value: object) -> None:
    assert parse_override(text) == (key, value)


@pytest.mark.parametrize("text", ["train.lr", "=1", "train..lr=1", "train.l r=1", ".lr=1", ""])
def test_set_without_a_key_and_a_value_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^--set: must be KEY=VALUE"):
        parse_override(text)


@pytest.mark.parametrize("written", ["[1,", "'open", "1 2", "", "1" * 5000, "1\nx = 2"])
def test_set_of_what_is_no_toml_value_is_refused(written: str) -> None:
    with pytest.raises(RecipeError, match=r"^--set: train\.lr: must be a TOML value"):
        parse_override(f"train.lr={written}")


def test_set_wins_over_the_file_and_later_over_earlier() -> None:
    assert load("train.lr = 0.1", "train.lr=0.2", "train.lr=0.3").train.lr == 0.3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr=-1", "--set: train.lr: must be > 0 (got -1)"),
        ("train.lr=abc", "--set: train.lr: must be a number (got 'abc')"),
        ("augment.flip=True", "--set: augment.flip: must be true or false (got 'True')"),
        ("model.width=0", "--set: model.width: must be >= 1 (got 0)"),
        ("train={ lr = -1 }", "--set: train.lr: must be > 0 (got -1)"),
        ("train.lr.x=1", "--set: train.lr: must be a number (got {'x': 1})"),
    ],
)
def test_a_problem_that_set_brought_is_reported_as_its_own(override: str, message: str) -> None:
    assert problem("", override) == message


def test_a_problem_of_the_file_stays_the_files_beside_one_of_set() -> None:
    assert sorted(problems("seed = -1", "train.lr=-1")) == [
        "--set: train.lr: must be > 0 (got -1)",
        "r.toml: seed: must be >= 0 (got -1)",
    ]


# Files


def test_config_json_is_a_recipe() -> None:
    assert load('{"name": "a", "train": {"lr": 0.25}}', file="config.json").train.lr == 0.25


def test_the_folder_of_a_run_means_its_config_json() -> None:
    Path("trial-0001").mkdir()
    Path("trial-0001/config.json").write_text('{"train": {"lr": 0.25}}')
    assert load_recipe("trial-0001").train.lr == 0.25


def test_nan_in_config_json_is_refused() -> None:
    line = problem('{"train": {"lr": NaN}}', file="config.json")
    assert line == "config.json: train.lr: must be finite (got nan)"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("r.toml", b"seed = ", "is not TOML"),
        ("r.toml", b"[train]\nlr = 1\nlr = 2\n", "is not TOML"),
        ("r.toml", b"seed = 1\0", "is not TOML"),
        ("r.toml", bytes(range(256)), "is not UTF-8 text"),
        ("config.json", b"{", "is not JSON"),
        ("config.json", b"[1]", "must hold a table of keys (got list)"),
        ("r.toml", b"#" * 300_000, "larger than 256,000 bytes"),
        ("r.toml", b"x = " + b"[" * 50_000 + b"]" * 50_000, "nested too deeply"),
        ("config.json", b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(file: str, content: bytes, message: str) -> None:
    Path(file).write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    (line,) = caught.value.lines
    assert line.startswith(f"{file}: ")
    assert message in line


DOTS = "a." * 5000 + "b = 1"


@pytest.mark.parametrize("text", [f"train.lr.{DOTS}", f"data.{DOTS}", f"space.{DOTS}"])
def test_keys_nested_thousands_deep_are_refused(text: str) -> None:
    assert problems(text)


@pytest.mark.parametrize(
    "text",
    [
        "[data]\nval_fraction = 2024-01-01",
        "[train]\nlr = 2024-01-01",
        "[model]\nname = 'dated_model:build_any'\nwhen = 2024-01-01",
        "seed = 2024-01-01\n[space]\ntrain.lr = { log = [1e-4, 1e-1] }",
    ],
)
def test_a_date_is_refused(text: str) -> None:
    Path("dated_model.py").write_text(OWN_MODEL)
    assert "2024" in problem(text)


@pytest.mark.parametrize("key", ["train.lr", "data.seed"])
def test_a_number_beyond_every_machine_is_refused(key: str) -> None:
    assert problem(f"{key} = 1{'0' * 400}").startswith(f"r.toml: {key}: ")


def test_no_line_is_longer_than_a_screen_however_long_the_value() -> None:
    assert len(problem(f'seed = "{"a" * 100_000}"')) < 2000


@pytest.mark.parametrize("source", ["nosuch", "", ".", "a\0b", "a" * 5000, "missing.toml"])
def test_a_recipe_that_is_not_there_is_one_line(source: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source)
    assert len(caught.value.lines) == 1


def test_a_shipped_name_with_a_slip_is_answered_with_the_name() -> None:
    with pytest.raises(RecipeError, match="did you mean 'digits'"):
        load_recipe("digit")


def test_left_out_the_recipe_is_the_one_here_else_the_digits() -> None:
    assert load_recipe(None).name == "digits"
    assert load("name = 'mine'", file="cnntune.toml").name == "mine"
    assert load_recipe(None).name == "mine"


@pytest.mark.parametrize("name", sorted(files.shipped()))
def test_every_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name).name == name


@pytest.mark.parametrize("name", sorted(files.shipped()))
def test_a_recipe_written_and_read_again_is_the_same(name: str) -> None:
    first = with_defaults(load_recipe(name))
    Path("again.toml").write_text(first.as_toml())
    Path("config.json").write_text(json.dumps(first.as_values()))
    folder = str(files.shipped()[name].parent)
    assert folder in sys.path  # own code still lies there
    assert load_recipe("again.toml") == first
    assert load_recipe("config.json") == first


# Space


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ("{ log = [0, 1] }", "log needs numbers > 0 (got [0, 1])"),
        ("{ log = [-1, 1] }", "log needs numbers > 0 (got [-1, 1])"),
        ("{ log = [1, 0.1] }", "log needs two numbers, the lower one first (got [1, 0.1])"),
        ("{ log = [1, 1] }", "log needs two numbers, the lower one first (got [1, 1])"),
        ("{ log = [1] }", "log needs two numbers, the lower one first (got [1])"),
        ("{ log = [true, 2] }", "log needs two numbers, the lower one first (got [True, 2])"),
        ("{ log = [nan, 1] }", "log needs two numbers, the lower one first (got [nan, 1])"),
        ("{ uniform = [0, inf] }", "uniform needs two numbers, the lower one first (got [0, inf])"),
        ("{ uniform = 3 }", "uniform needs two numbers, the lower one first (got 3)"),
        ("{ choice = [] }", "choice needs a list of at least one value (got [])"),
        ("{ choice = 3 }", "choice needs a list of at least one value (got 3)"),
        ("{ choice = [[1]] }", "choice takes numbers, strings, true and false (got [[1]])"),
        ("{ choice = [0.1, 0.1] }", "choice names a value twice (got [0.1, 0.1])"),
    ],
)
def test_a_dimension_that_cannot_be_drawn_from_is_refused(dimension: str, message: str) -> None:
    assert problem(f"[space]\ntrain.lr = {dimension}") == f"r.toml: space.train.lr: {message}"


@pytest.mark.parametrize(
    "dimension", ["3", "[1, 2]", "{}", "{ lgo = [1, 2] }", "{ log = [1, 2], uniform = [1, 2] }"]
)
def test_what_is_no_dimension_is_answered_with_the_three_that_there_are(dimension: str) -> None:
    line = problem(f"[space]\ntrain.lr = {dimension}")
    assert line.startswith("r.toml: space.train")
    assert "must be { log = [low, high] }, { uniform = [low, high] } or { choice" in line


def test_an_end_of_a_range_beyond_every_machine_is_refused() -> None:
    line = problem(f"[space]\ntrain.lr = {{ uniform = [1, 1{'0' * 400}] }}")
    assert line.startswith("r.toml: space.train.lr: uniform needs two numbers")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("train.momentum = { uniform = [0.5, 1.5] }", "train.momentum: 1.5: must be < 1 (got 1.5)"),
        ("model.dropout = { uniform = [-1, 0.5] }", "model.dropout: -1.0: must be >= 0 (got -1.0)"),
        ("train.batch_size = { uniform = [0, 64] }", "train.batch_size: 0: must be >= 1 (got 0)"),
        (
            "train.batch_size = { log = [16, 64.5] }",
            "train.batch_size: 16.0: must be an integer (got 16.0)",
        ),
        ("train.lr = { choice = [0.1, 'x'] }", "train.lr: 'x': must be a number (got 'x')"),
        ("train.lr = { choice = [0.1, nan] }", "train.lr: nan: must be finite (got nan)"),
        (
            "train.optimizer = { choice = ['sgd', 'lion'] }",
            "train.optimizer: 'lion': must be one of sgd, adam, adamw (got 'lion')",
        ),
    ],
)
def test_both_ends_and_every_option_are_tried_in_the_recipe(written: str, message: str) -> None:
    assert problem(f"[space]\n{written}") == f"r.toml: space.{message}"


def test_an_option_that_does_not_go_with_the_rest_of_the_recipe_is_refused() -> None:
    text = "train.epochs = 9\nsearch.epochs = 9\ntrain.warmup_epochs = 2\n[space]\n"
    line = problem(text + "train.schedule = { choice = ['cosine', 'one-cycle'] }")
    assert line.startswith(
        'r.toml: space.train.schedule: with train.schedule="one-cycle": train.warmup_epochs:'
        " must be 0"
    )


def test_two_keys_are_tried_together_too() -> None:
    text = (
        "train.epochs = 9\nsearch.epochs = 9\n[space]\ntrain.warmup_epochs = { choice = [0, 2] }\n"
    )
    line = problem(text + "train.schedule = { choice = ['cosine', 'one-cycle'] }")
    assert line.startswith(
        "r.toml: space.train.warmup_epochs: with train.warmup_epochs=2 and"
        ' train.schedule="one-cycle": train.warmup_epochs: must be 0'
    )


@pytest.mark.parametrize("size", [1, 7])
def test_images_of_fewer_than_eight_pixels_are_refused(size: int) -> None:
    text = f"data.name = 'folder'\ndata.path = 'a'\ndata.image_size = {size}"
    assert problem(text) == f"r.toml: data.image_size: must be >= 8 (got {size})"


def test_hundreds_of_numbers_are_tried_in_no_time() -> None:
    numbers = [number / 1000 for number in range(1, 1000)]
    keys = ("train.lr", "train.weight_decay", "train.momentum", "train.grad_clip")
    space = load("[space]\n" + "\n".join(f"{key} = {{ choice = {numbers} }}" for key in keys)).space
    assert len(space) == 4


def test_a_value_that_a_trial_is_too_short_for_is_refused() -> None:
    text = "train.epochs = 9\nsearch.epochs = 3\n[space]\ntrain.warmup_epochs = { choice = [0, 4] }"
    assert problem(text).startswith(
        "r.toml: space.train.warmup_epochs: 4: in a trial of 3 epochs, which is search.epochs:"
        " must be < 3, which is train.epochs (got 4)"
    )


def test_a_key_of_the_space_is_not_blamed_for_what_is_wrong_without_it() -> None:
    # The rate hides the warm-up, which would come to light with each rate of the space.
    text = "train.lr = -1\ntrain.epochs = 1\ntrain.warmup_epochs = 1\n[space]\n"
    text += "train.lr = { log = [1e-3, 1e-1] }\nmodel.width = { choice = [8, 16] }"
    assert problem(text) == "r.toml: train.lr: must be > 0 (got -1)"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (
            "model.width = 32\n[space]\nmodel.name = { choice = ['small-cnn', 'vgg16'] }",
            'space.model.name: with model.name="vgg16": model.width: unknown key; allowed: ',
        ),
        (
            "[space]\nmodel.name = { choice = ['small-cnn', 'vgg16'] }\n"
            "model.width = { choice = [8, 16] }",
            'space.model.name: with model.name="vgg16" and model.width=8: model.width: unknown key',
        ),
        (
            "[space.model.small-cnn]\nwidth = { choice = [8, 16] }",
            "space.model.small-cnn.width: with model.small-cnn.width=8: model.small-cnn: unknown",
        ),
    ],
)
def test_networks_with_different_arguments_are_said_to_need_a_search_each(
    text: str, start: str
) -> None:
    line = problem(text)
    assert line.startswith(f"r.toml: {start}")
    assert "networks with different arguments need a recipe and a search each" in line


def test_all_problems_of_a_choice_are_reported_at_once() -> None:
    networks = "['small-cnn', 'resnet18', 'no-such', 'vgg16']"
    given = "model.width = 8\nmodel.dropout = 0.1\n"
    text = f"{given}[space]\nmodel.name = {{ choice = {networks} }}"
    starts = [
        'with model.name="resnet18": model.width: unknown key',
        'with model.name="resnet18": model.dropout: unknown key',
        "'no-such': ",
        'with model.name="vgg16": model.width: unknown key',
    ]
    lines = problems(text + "\ntrain.batch_size = { choice = [16, 0, -1] }")
    starts = [f"r.toml: space.model.name: {start}" for start in starts]
    starts += [f"r.toml: space.train.batch_size: {n}: must be >= 1 (got {n})" for n in (0, -1)]
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


def test_every_option_that_does_not_go_with_another_key_is_reported() -> None:
    names = "model.name = { choice = ['small-cnn', 'resnet18', 'vgg16', 'no-such'] }\n"
    lines = problems(f"[space]\n{names}model.width = {{ choice = [8, 16] }}")
    wrong = ("'no-such': ", 'with model.name="resnet18" and', 'with model.name="vgg16" and')
    assert len(lines) == len(wrong)
    for line, start in zip(lines, wrong, strict=True):
        assert line.startswith(f"r.toml: space.model.name: {start}")


def test_one_value_that_is_wrong_hides_no_problem_of_another_of_its_key() -> None:
    # At one of the two ends the rate is wrong; at the other the warm-up meets one-cycle.
    text = "train.epochs = 9\nsearch.epochs = 9\n[space]\ntrain.lr = { uniform = [-1, 1] }\n"
    text += "train.schedule = { choice = ['cosine', 'one-cycle', 'no-such'] }\n"
    lines = problems(f"{text}train.warmup_epochs = {{ choice = [0, 2] }}")
    assert len(lines) == 3
    assert lines[0].startswith("r.toml: space.train.lr: -1.0: must be > 0")
    assert lines[1].startswith("r.toml: space.train.schedule: 'no-such': must be one of")
    assert lines[2].startswith('r.toml: space.train.schedule: with train.schedule="one-cycle"')


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (
            "train.lr = [1e-3, 1e-1]",
            "space.train.lr: must be { log = [low, high] }, { uniform = [low, high] } or"
            " { choice = [...] } (got [0.001, 0.1])",
        ),
        (
            "train = { choice = [1] }",
            "space.train: is a table whose keys may be searched, such as space.train.lr"
            " (got {'choice': [1]})",
        ),
        (
            "augment = 3",
            "space.augment: is a table whose keys may be searched, such as space.augment.flip"
            " (got 3)",
        ),
        (
            "test = { choice = [1] }",
            "space.test: cannot be searched over: no trial is tested",
        ),
    ],
)
def test_what_is_wrong_in_the_space_is_said_of_the_key_that_was_written(
    written: str, line: str
) -> None:
    assert problem(f"[space]\n{written}") == f"r.toml: {line}"


def test_a_key_written_well_beside_one_written_badly_is_no_problem() -> None:
    text = "[space]\ntrain.lr = [1e-3, 1e-1]\ntrain.momentum = { uniform = [0.5, 0.9] }"
    assert problem(text).startswith("r.toml: space.train.lr: must be { log")


def test_networks_that_take_the_same_arguments_are_searched_together() -> None:
    names = "model.name = { choice = ['small-cnn', 'small-resnet'] }\n"
    space = load(f"[space]\n{names}model.width = {{ choice = [8, 16] }}").space
    assert space["model.name"] == Choice(("small-cnn", "small-resnet"))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("name", "it names the study"),
        ("seed", "it would rank luck; `cnntune refine` repeats the best"),
        ("search", "it is decided once, for all trials of a search"),
        ("search.epochs", "it is decided once, for all trials of a search"),
        ("test.views", "no trial is tested"),
        ("space.x", "it is the space itself"),
        ("train.epochs", "each trial trains for search.epochs"),
        ("train.threads", "it is decided once, for all trials of a search"),
        ("train.precision", "it is decided once, for all trials of a search"),
        ("data.name", "trials would be measured on different validation images"),
        ("data.seed", "trials would be measured on different validation images"),
        ("data.val_fraction", "trials would be measured on different validation images"),
        ("data.size", "trials would be measured on different validation images"),
    ],
)
def test_a_key_that_makes_trials_incomparable_cannot_be_searched_over(
    key: str, reason: str
) -> None:
    line = problem(f"[space]\n{key} = {{ choice = [1, 2] }}")
    assert line == f"r.toml: space.{key}: cannot be searched over: {reason}"


@pytest.mark.parametrize("name", ["folder", "npz", "cifar10"])
def test_where_the_images_lie_cannot_be_searched_over(name: str) -> None:
    text = f"data.name = '{name}'\ndata.path = 'a'\n[space]\ndata.path = {{ choice = ['a', 'b'] }}"
    assert problem(text).startswith("r.toml: space.data.path: cannot be searched over: trials")


OWN_DATA = """
def build(*, seed, size: int = 32, blur: float = 0.0): ...
"""


def warnings_of(text: str) -> dict[str, str]:
    recipe = load(text)
    found = space_findings(recipe, argument_types(recipe.as_values()))
    assert {finding.severity for finding in found} <= {"warn"}
    return {finding.where: finding.evidence for finding in found}


def test_a_key_that_buys_accuracy_is_searched_with_a_warning() -> None:
    text = (
        "data.name = 'folder'\ndata.path = 'a'\n[space]\ndata.image_size = { choice = [32, 64] }\n"
    )
    found = warnings_of(
        text + "train.patience = { choice = [0, 2] }\nmodel.width = { choice = [8] }"
    )
    assert found.keys() == {"data.image_size", "train.patience"}
    assert "larger images take longer" in found["data.image_size"]


def test_an_argument_of_own_data_code_is_searched_with_a_warning() -> None:
    Path("searched_data.py").write_text(OWN_DATA)
    found = warnings_of(
        "data.name = 'searched_data:build'\n[space]\ndata.blur = { choice = [0, 1] }"
    )
    assert "if it changes the validation images" in found["data.blur"]


def test_a_stored_recipe_whose_space_would_be_refused_today_is_read() -> None:
    space = {"data.val_fraction": {"uniform": [0.1, 0.5]}, "train.momentum": {"choice": [0.5, 2]}}
    assert stored({"space": space}, file="study.db").as_values()["space"] == space


def test_a_range_over_a_whole_number_key_draws_whole_numbers() -> None:
    space = load(
        "[space]\ntrain.batch_size = { log = [16, 256] }\nmodel.width = { uniform = [8, 64] }\n"
        "train.lr = { uniform = [1, 2] }\ntrain.grad_clip = { uniform = [0, 5] }"
    ).space
    assert space["train.batch_size"] == Range(16, 256, log=True, integer=True)
    assert space["model.width"] == Range(8, 64, integer=True)
    assert space["train.lr"] == Range(1, 2)
    assert space["train.grad_clip"] == Range(0, 5)


OWN_TYPES = """
import typing
from torch import nn

def build(*, num_classes, in_shape, width: int, depth: typing.Optional[int] = None, gain=2.0,
          blocks=3, widths: int | list[int] = 4, scale: int | float = 1, share: "float" = 0.5,
          **more):
    return nn.Flatten()
"""


@pytest.mark.parametrize(
    ("key", "integer"),
    [
        ("width", True),
        ("depth", True),
        ("blocks", True),  # as its default is
        ("widths", True),
        ("scale", False),
        ("gain", False),
        ("share", False),
        ("unnamed", False),
    ],
)
def test_whole_numbers_are_drawn_where_own_code_says_so(key: str, integer: bool) -> None:
    Path("typed_model.py").write_text(OWN_TYPES)
    model = "model.name = 'typed_model:build'\nmodel.width = 8\n"
    space = load(f"{model}[space]\nmodel.{key} = {{ uniform = [2, 8] }}").space
    assert space[f"model.{key}"] == Range(2, 8, integer=integer)


def test_keys_of_the_space_may_be_quoted_dotted_or_tables() -> None:
    expected = {"train.lr": Range(1e-4, 1e-1, log=True), "model.width": Choice((8, 16))}
    dotted = "[space]\ntrain.lr = { log = [1e-4, 1e-1] }\nmodel.width = { choice = [8, 16] }"
    quoted = '[space]\n"train.lr" = { log = [1e-4, 1e-1] }\n"model.width" = { choice = [8, 16] }'
    tables = "[space.train]\nlr = { log = [1e-4, 1e-1] }\n[space.model.width]\nchoice = [8, 16]"
    assert load(dotted).space == load(quoted).space == load(tables).space == expected


# Combinations


def test_a_warm_up_as_long_as_the_run_is_refused() -> None:
    assert problem("train.warmup_epochs = 3\ntrain.epochs = 3") == (
        "r.toml: train.warmup_epochs: must be < 3, which is train.epochs (got 3); change one of"
        " them, such as --set train.warmup_epochs=0"
    )


def test_one_cycle_does_not_warm_up_twice() -> None:
    line = problem("train.schedule = 'one-cycle'\ntrain.warmup_epochs = 1")
    assert line.startswith("r.toml: train.warmup_epochs: must be 0")


def test_label_smoothing_belongs_to_the_built_in_loss() -> None:
    Path("combined_loss.py").write_text("def loss(logits, targets): ...")
    line = problem("train.loss = 'combined_loss:loss'\ntrain.label_smoothing = 0.1")
    assert line.startswith("r.toml: train.label_smoothing: must be 0 with a custom loss")


# Own code


def test_own_code_is_checked_against_its_signature() -> None:
    Path("signed_model.py").write_text(OWN_MODEL)
    name = "model.name = 'signed_model:build'\n"
    assert problem(name) == "r.toml: model.width: is missing"
    assert problem(name + "model.width = 'x'").endswith("must be an integer (got 'x')")
    assert "did you mean 'gain'" in problem(name + "model.width = 8\nmodel.gian = 2")
    assert load(name + "model.width = 8\nmodel.gain = 2").model.arguments["gain"] == 2


@pytest.mark.parametrize("key", ["num_classes", "in_shape"])
def test_arguments_that_cnntune_gives_cannot_be_given(key: str) -> None:
    assert f"model.{key}: unknown key" in problem(f"model.{key} = 3")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_nan_and_infinity_do_not_reach_own_code(value: str) -> None:
    Path("finite_model.py").write_text(OWN_MODEL)
    name = "model.name = 'finite_model:build'\nmodel.width = 8\n"
    line = problem(f"{name}model.gain = {value}")
    assert line == f"r.toml: model.gain: must be finite (got {value})"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuchmodule:build", "no module 'nosuchmodule' in the working directory"),
        ("found_model:buidl", "'found_model' has no function 'buidl'; did you mean 'build'?"),
        (":build", "must be 'module:function'"),
        ("found_model.py:build", "; did you mean 'found_model:build'?"),
        ("./pkg/found_model.py:build", "; did you mean 'pkg.found_model:build'?"),
        ("pkg/found_model:", "; did you mean 'pkg.found_model:build'?"),
        ("found_model:", "must be 'module:function'"),
        (".found_model:build", ""),
        ("builtins:dict", ""),
    ],
)
def test_an_import_string_that_leads_nowhere_is_one_line(name: str, message: str) -> None:
    Path("found_model.py").write_text(OWN_MODEL)
    line = problem(f"model.name = '{name}'")
    assert line.startswith("r.toml: model.name: ")
    assert message in line


@pytest.mark.parametrize(
    ("module", "code", "found"),
    [
        ("raises_on_import", "value = {}['key']", "KeyError"),
        ("lacks_an_import", "import nosuchmodule", "nosuchmodule"),
        ("has_no_syntax", "def build(:", "SyntaxError"),
        ("leaves_on_import", "import sys\nsys.exit(3)", "SystemExit"),
    ],
)
def test_own_code_that_cannot_be_imported_is_shown_where_it_fails(
    module: str, code: str, found: str
) -> None:
    Path(f"{module}.py").write_text(code)
    with pytest.raises(UserCodeError) as caught:
        load(f"model.name = '{module}:build'")
    assert found in str(caught.value)
    assert f"{module}.py" in str(caught.value)


# Values


def test_differences_name_each_key_with_both_values() -> None:
    stored = parse({"name": "a", "train": {"lr": 0.05}}, file="a")
    asked = parse({"name": "a", "train": {"lr": 0.1}, "model": {"width": 8}}, file="a")
    assert differences(stored, stored) == []
    assert differences(asked, stored) == [
        "model.width: nothing there, 8 asked",
        "train.lr: 0.05 there, 0.1 asked",
    ]


def test_a_trial_has_its_values_the_searchs_epochs_and_no_space() -> None:
    trial = load(
        "[search]\nepochs = 2\n[space]\ntrain.lr = { log = [1e-4, 1e-1] }", "train.epochs=9"
    ).for_trial({"train.lr": 0.003})
    assert (trial.train.lr, trial.train.epochs, trial.train.threads) == (0.003, 2, 1)
    assert trial.space == {}


def test_changed_values_are_checked_again() -> None:
    with pytest.raises(RecipeError, match=r"train.lr: must be > 0"):
        Recipe().with_values({"train.lr": -1.0})


def test_a_recipe_cannot_be_changed_in_place() -> None:
    recipe_ = Recipe()
    with pytest.raises(ValueError, match="frozen"):
        recipe_.seed = 1  # type: ignore[misc]


def test_a_stored_recipe_says_by_itself_which_ranges_are_whole_numbers() -> None:
    space = {"model.width": {"log": [8, 64]}, "train.lr": {"log": [1.0, 2.0]}}
    values = {"model": {"name": "gone:build"}, "space": space}
    read = stored(values, file="study.db")
    assert read.space["model.width"] == Range(8.0, 64.0, log=True, integer=True)
    assert read.space["train.lr"] == Range(1.0, 2.0, log=True, integer=False)
    assert read.as_values()["space"] == space
