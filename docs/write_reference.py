"""Writes docs/reference from the code alone: `python docs/write_reference.py`.

`pages` gives every file as text; `tests/docs/test_reference.py` compares them with what is there.
"""

import ast
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import documents  # beside this script
from pydantic import TypeAdapter, ValidationError
from typer.models import ArgumentInfo, ParamMeta
from typer.utils import get_params_from_function

from cnntune import cli, data, models
from cnntune.config.recipe import Recipe, Section, key_type
from cnntune.config.searchable import Costly, Fixed, mark_of
from cnntune.config.signatures import KEYWORDS
from cnntune.diagnosis import rules
from cnntune.diagnosis.advice import ADVICE, Change
from cnntune.diagnosis.curve import Curve
from cnntune.diagnosis.signs import MEANINGS
from cnntune.findings import SEVERITIES
from cnntune.models import from_timm, from_torchvision
from cnntune.models.table import ARGUMENTS
from cnntune.runs.run import Epoch
from cnntune.script import rules as script_rules
from cnntune.steps import sanity
from cnntune.texts import unwrapped

Schema = dict[str, Any]
FOLDER = Path(__file__).with_name("reference")
PACKAGE = Path(cli.__file__).parents[1]
REFRESH = "python docs/write_reference.py"
WRITTEN = f"This page is written by `{REFRESH}`; a test compares it with the code."
DRAFT = "https://json-schema.org/draft/2020-12/schema"
LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
TYPES = {"boolean": "true or false", "object": "table"}
NO_MARK = "yes"


def pages() -> dict[str, str]:
    """Every file of the reference by its path below `docs/reference`."""
    found = schemas()
    texts = {
        "recipe.md": recipe_page(),
        "sanity.md": sanity_page(),
        "script-rules.md": script_page(),
        "diagnose.md": diagnose_page(),
        "commands.md": commands_page(),
        "documents.md": documents_page(found),
    }
    for name, schema in found.items():
        texts[f"schema/{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return texts


# Words and tables


def page(title: str, *blocks: str) -> str:
    """A page of paragraphs and tables."""
    return "\n\n".join([f"# {title}", WRITTEN, *(block for block in blocks if block)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def lesson(described: Any) -> str:
    """A docstring with one line per paragraph, without what it raises."""
    text = (inspect.getdoc(described) or "").partition("\nRaises:")[0]
    return unwrapped(text.strip())


def code(value: Any) -> str:
    """A value as a recipe or JSON has it."""
    if isinstance(value, float):
        return f"`{value:.4g}`"
    return f"`{json.dumps(value, default=str)}`"


def words(schema: Schema) -> str:
    """The type of a JSON Schema in words."""
    if "$ref" in schema:
        return (
            f"[{schema['$ref'].rpartition('/')[2]}](#{schema['$ref'].rpartition('/')[2].lower()})"
        )
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(words(inner) for inner in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(code(word) for word in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind == "array":
        inner = words(schema.get("items", {}))
        if inner.isalpha():
            return f"list of {inner}s"
        return f"list of ({inner})" if " " in inner else f"list of {inner}"
    if kind == "object" and isinstance(values := schema.get("additionalProperties"), dict):
        return f"table of {words(values)}"
    return TYPES.get(str(kind), str(kind))


def allowed(schema: Schema) -> str:
    """The limits of a JSON Schema in words."""
    told = [f"{sign} {schema[key]}" for key, sign in LIMITS.items() if key in schema]
    told += [f"matches `{schema['pattern']}`"] if "pattern" in schema else []
    for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        told += [text] if (text := allowed(inner)) else []
    return ", ".join(told)


# recipe.md


def recipe_page() -> str:
    """Every key of a recipe."""
    blocks = [
        "A recipe is a TOML file, or the `config.json` of a run. Every key has a default, so an"
        " empty recipe is complete. On the command line, `--set train.lr=0.01` changes a key. The"
        " JSON Schema is `schema/recipe.json`.",
        "The last column says whether a search may vary the key, that is whether it may stand in"
        " `[space]`.",
        "## Top level\n\n" + table(KEY_HEAD, _section_rows("", Recipe)),
    ]
    for name, field in Recipe.model_fields.items():
        if not _is_section(field.annotation):
            continue
        about = lesson(field.annotation).removeprefix(f"`[{name}]`: ").capitalize()
        blocks.append(f"## [{name}]\n\n{about}")
        blocks.append(table(KEY_HEAD, _section_rows(name, field.annotation)))
        if name == "data":
            blocks += _builder_blocks("data", {name: data.builder(name) for name in data.BUILT_IN})
        if name == "model":
            blocks += _builder_blocks("model", _model_builders())
    return page("Recipe keys", *blocks, SPACE)


KEY_HEAD = ("key", "type", "default", "allowed", "meaning", "searchable")
SPACE = """\
## [space]

Maps recipe keys to the values that a search draws from. Keys are written with their table, such as
`train.lr = { log = [1e-4, 1e-1] }`.

| dimension | draws |
| --- | --- |
| `{ log = [low, high] }` | numbers between two ends > 0, uniform in their logarithm |
| `{ uniform = [low, high] }` | numbers between two ends, uniform |
| `{ choice = [...] }` | one of the listed numbers, strings, `true` or `false` |

Both ends are included. Where the key takes integers and the ends are integers, integers are drawn.
Without `[space]`, `search` uses a default space and prints it."""


def _is_section(owner: Any) -> TypeGuard[type[Section]]:
    return isinstance(owner, type) and issubclass(owner, Section)


def _section_rows(name: str, owner: type[Section]) -> Iterator[Sequence[str]]:
    for key, field in owner.model_fields.items():
        if _is_section(field.annotation) or key == "space":
            continue
        full = f"{name}.{key}" if name else key
        mark = mark_of(key_type(name, {})) if name else None
        yield key_row(key, key_type(full, {}), field.default, mark, field.description or "")


def key_row(
    key: str, annotation: Any, default: Any, mark: Any = None, meaning: str = ""
) -> Sequence[str]:
    """A line of a table of keys."""
    schema = TypeAdapter(annotation).json_schema()
    shown = "not set" if default is None else code(default)
    if default is inspect.Parameter.empty:
        shown = "required"
    kinds = words({**schema, "anyOf": _without_null(schema)} if "anyOf" in schema else schema)
    return (
        f"`{key}`",
        kinds,
        shown,
        _told_limits(annotation) or allowed(schema),
        meaning or _described(schema) or ARGUMENTS.get(key, ""),
        searchable(schema, mark or mark_of(annotation)),
    )


def _without_null(schema: Schema) -> list[Schema]:
    return [inner for inner in schema["anyOf"] if inner.get("type") != "null"]


def _described(schema: Schema) -> str:
    inner = (part.get("description", "") for part in schema.get("anyOf", ()))
    return schema.get("description") or next(filter(None, inner), "")


def _told_limits(annotation: Any) -> str:
    """What a validator of our own says of a wrong value, after "must be"."""
    for wrong in (-1, ""):
        try:
            TypeAdapter(annotation).validate_python(wrong)
        except ValidationError as error:
            for detail in error.errors():
                if detail["msg"].startswith("must be "):
                    return detail["msg"].removeprefix("must be ")
    return ""


def searchable(schema: Schema, mark: Any) -> str:
    """Whether a search may vary a key, and why not."""
    if isinstance(mark, Fixed):
        return f"no: {mark.reason}"
    if {inner.get("type") for inner in _parts(schema)} == {"array"}:
        return "no: it is a list"
    if isinstance(mark, Costly):
        return f"yes, with a warning: {mark.reason}"
    return NO_MARK


def _parts(schema: Schema) -> list[Schema]:
    return _without_null(schema) if "anyOf" in schema else [schema]


def _model_builders() -> dict[str, Callable[..., Any]]:
    """The builders of models, those with the same arguments under their common name."""
    found: dict[str, Callable[..., Any]] = {name: models.builder(name) for name in models.BUILT_IN}
    inceptions = ", ".join(from_torchvision.INCEPTIONS)
    return {
        **found,
        "a torchvision classifier": partial(from_torchvision.build, ""),
        "a torchvision classifier with dropout": partial(from_torchvision.build_with_dropout, ""),
        inceptions: partial(from_torchvision.build_inception, ""),
        f"{from_timm.TIMM}NAME": partial(from_timm.build, ""),
    }


def _builder_blocks(section: str, builders: Mapping[str, Callable[..., Any]]) -> Iterator[str]:
    """The arguments of each builder, which are further keys of its section."""
    by_function: dict[Any, list[str]] = {}
    for name, builder in builders.items():
        function = builder.func if isinstance(builder, partial) else builder
        by_function.setdefault(function, []).append(name)
    for function, names in by_function.items():
        title = ", ".join(name if " " in name else f"`{name}`" for name in names)
        yield f"### {section}.name: {title}\n\n{lesson(function)}"
        hints = typing.get_type_hints(function, include_extras=True)
        keywords = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in KEYWORDS[section]
        ]
        yield table(KEY_HEAD, (key_row(p.name, hints[p.name], p.default) for p in keywords))


# sanity.md


def sanity_page() -> str:
    """Every rule of `cnntune sanity`."""
    found = severities(sorted((PACKAGE / "steps" / "sanity").rglob("*.py")))
    blocks = [
        "The rules of `cnntune sanity`, in the order in which they are checked."
        " `cnntune sanity --explain RULE` prints the same text. The severities are those that a"
        " finding of the rule may have; `fail` leads to exit code 1.",
        table(
            ("rule", "severities"),
            ((f"[`{rule}`](#{rule})", ", ".join(found.get(rule, ()))) for rule in sanity.RULES),
        ),
    ]
    for rule in sanity.RULES:
        told = ", ".join(f"`{severity}`" for severity in found.get(rule, ()))
        blocks.append(f"## {rule}\n\nSeverities: {told}\n\n{unwrapped(sanity.explain(rule))}")
    return page("Sanity rules", *blocks)


def script_page() -> str:
    """Every rule of `cnntune sanity -- COMMAND`."""
    names = script_rules.RULES
    blocks = [
        "The rules of `cnntune sanity -- COMMAND`, in the order in which findings are listed."
        " `cnntune sanity --explain RULE` prints the same text.",
        table(
            ("rule", "in short"),
            (
                (f"[`{rule}`](#{rule})", script_rules.explain(rule).partition("\n\n")[0])
                for rule in names
            ),
        ),
    ]
    blocks += [f"## {rule}\n\n{unwrapped(script_rules.explain(rule))}" for rule in names]
    return page("Rules for scripts", *blocks)


def severities(files: Iterable[Path]) -> dict[str, list[str]]:
    """The severities that each rule's findings may have, as the calls of `Finding` are written."""
    found: dict[str, set[str]] = {}
    for file in files:
        for function in _functions(file):
            for call in _calls(function, "Finding", "Symptom", "Swap"):
                given = {str(keyword.arg): keyword.value for keyword in call.keywords}
                given |= dict(zip(("rule", "severity"), call.args, strict=False))
                rule, severity = given.get("rule"), given.get("severity")
                if isinstance(rule, ast.Constant):
                    told = found.setdefault(str(rule.value), set())
                    told |= _severities(severity, function)
                    told |= _by_outcome(call)
    return {rule: sorted(told, key=SEVERITIES.index) for rule, told in found.items()}


def _by_outcome(call: ast.Call) -> set[str]:
    """The severities that experiments give a symptom, or the part that a replacement repairs."""
    name = ast.unparse(call.func)
    if name == "Swap":
        return {"fail"}
    least = next((k.value for k in call.keywords if k.arg == "least"), ast.Constant("info"))
    return {"fail", "warn", *_constants(least)} if name == "Symptom" else set()


def _severities(given: ast.expr | None, function: ast.AST) -> set[str]:
    """The words in an expression, or those that are assigned to a name of the function."""
    values = [given]
    if isinstance(given, ast.Name):
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign | ast.AnnAssign)
            and given.id in {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        ]
    found = {word for value in values if value is not None for word in _constants(value)}
    return found & set(SEVERITIES)


def _functions(file: Path) -> list[ast.AST]:
    """The functions of a file, methods too, and what stands outside of them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    outside = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    return [*inside, *outside]


def _calls(node: ast.AST, *names: str) -> Iterator[ast.Call]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and ast.unparse(inner.func) in names:
            yield inner


def _constants(node: ast.AST) -> list[str]:
    found = (inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant))
    return [value for value in found if isinstance(value, str)]


# diagnose.md


def diagnose_page() -> str:
    """Every label and every secondary sign of `cnntune diagnose`."""
    cases = _cases()
    blocks = [
        "`cnntune diagnose` gives each run one label. The first rule that applies decides. The"
        " advice below is the general one, in its order; where the settings of a run are known, a"
        " line names the key and both values, and advice that the recipe follows already is left"
        " out.",
        "## Labels",
    ]
    for label in typing.get_args(rules.Label):
        blocks.append(f"### {label}")
        told: set[str] = set()
        for problem, lessons in cases[label].items():
            new = [text for text in lessons if text not in told]
            told.update(new)
            advice = "\n".join(f"{n}. {_change(c)}" for n, c in enumerate(ADVICE[problem], start=1))
            which = f" (`{problem}`)" if len(cases[label]) > 1 else ""
            blocks += [*new, f"Advice{which}:\n\n{advice}"]
    effects = _effects()
    rows = ((f"`{sign}`", text, effects.get(sign, "")) for sign, text in MEANINGS.items())
    blocks.append(
        "## Secondary signs\n\nWhat else a curve shows. Signs stand in `flags` of"
        " `diagnose --json`; they do not decide about the label."
    )
    blocks.append(table(("sign", "meaning", "advice"), rows))
    return page("Diagnoses", *blocks)


def _change(change: Change | str) -> str:
    return change if isinstance(change, str) else f"{change.general} (`{change.key}`)"


def _cases() -> dict[str, dict[str, list[str]]]:
    """The problems under each label, with the lessons of the rules that find them."""
    functions = {
        f.name: f for f in _functions(Path(rules.__file__)) if isinstance(f, ast.FunctionDef)
    }
    found: dict[str, dict[str, list[str]]] = {label: {} for label in typing.get_args(rules.Label)}
    for name, function in functions.items():
        for call in _calls(function, "Verdict"):
            label, problem = call.args[:2]
            if not isinstance(label, ast.Constant):
                continue
            told = [name] if ast.get_docstring(function) else _callers(functions, name)
            for one in _problems(problem, function):
                lessons = found[str(label.value)].setdefault(one, [])
                if name == "judge":  # where no rule can be asked, the evidence says it all
                    lessons.append(f"{rules.diagnose(Curve([])).evidence}.")
                else:
                    lessons += [lesson(getattr(rules, n)) for n in told]
    return {
        label: {problem: list(dict.fromkeys(texts)) for problem, texts in problems.items()}
        for label, problems in found.items()
    }


def _problems(given: ast.expr, function: ast.AST) -> list[str]:
    """A problem as it is written, or all that are assigned to its name."""
    if isinstance(given, ast.Constant):
        return [str(given.value)]
    values = [n.value for n in ast.walk(function) if isinstance(n, ast.Assign)]
    return [word for word in ADVICE if any(word in _constants(value) for value in values)]


def _callers(functions: Mapping[str, ast.AST], name: str) -> list[str]:
    return [other for other, node in functions.items() if list(_calls(node, name))]


def _effects() -> dict[str, str]:
    """The advice that a sign leads to, as `rules.diagnose` writes it."""
    tree = ast.parse(inspect.getsource(rules.diagnose))
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.If):
            signs = [word for word in _constants(node.test) if word in MEANINGS]
            texts = [_told(value) for line in node.body for value in _texts(line)]
            found |= dict.fromkeys(signs, "; ".join(texts))
    return found


def _texts(line: ast.stmt) -> Iterator[ast.expr]:
    for node in ast.walk(line):
        if isinstance(node, ast.List):
            yield from node.elts
        if isinstance(node, ast.Call):
            yield from (a for a in node.args if isinstance(a, ast.JoinedStr) or _constants(a))


def _told(text: ast.expr) -> str:
    """A string; of an f-string the values as `N`."""
    if isinstance(text, ast.JoinedStr):
        return "".join(str(p.value) if isinstance(p, ast.Constant) else "N" for p in text.values)
    return "".join(_constants(text))


# commands.md


def commands_page() -> str:
    """Every command, its arguments and options, and the exit codes."""
    app = cli.app
    functions = [one.callback for one in app.registered_commands if one.callback is not None]
    found = {function.__name__.replace("_", "-"): function for function in functions}
    told = unwrapped(cli.__doc__ or "").partition("Exit codes:")[2]
    codes = re.findall(r"(\d+) ([^;.]+)[;.]", told)
    failing = [
        f"`{rule}`"
        for rule, shown in severities(sorted(PACKAGE.rglob("*.py"))).items()
        if "fail" in shown
    ]
    blocks = [
        str(app.info.help),
        str(app.info.epilog),
        table(
            ("command", "does"),
            (
                (f"[`{name}`](#{name})", lesson(command).partition("\n")[0])
                for name, command in found.items()
            ),
        ),
        "`cnntune --version` prints the version, and `--help` or `-h` after a command its help.",
        "## Exit codes",
        table(("code", "meaning"), ((f"`{code_}`", text) for code_, text in codes)),
        "Exit code 1 follows a finding of severity `fail`, which these rules may have:"
        f" {', '.join(sorted(failing))}; and every label given to `diagnose --fail-on`.",
    ]
    for name, command in found.items():
        parameters = get_params_from_function(command).values()
        arguments = [_metavar(p.default) for p in parameters if _is_argument(p)]
        usage = " ".join(["cnntune", name, *arguments, "[OPTIONS]"])
        blocks.append(f"## {name}\n\n{lesson(command)}\n\n```\n{usage}\n```")
        blocks.append(table(PARAMETER_HEAD, map(_parameter_row, parameters)))
        blocks.append(f"With `--json`: [documents.md](documents.md#{name}).")
    return page("Commands", *blocks)


PARAMETER_HEAD = ("argument or option", "type", "default", "meaning")


def _is_argument(parameter: ParamMeta) -> bool:
    return isinstance(parameter.default, ArgumentInfo)


def _metavar(info: Any) -> str:
    return str(info.metavar or "")


def _parameter_row(parameter: ParamMeta) -> Sequence[str]:
    """A line of the table of a command's arguments and options."""
    info: Any = parameter.default
    options = info.param_decls or [f"--{parameter.name.replace('_', '-')}"]
    name = _metavar(info) if _is_argument(parameter) else ", ".join(options)
    default = info.default
    unset = default is None or default is False or default == ""
    shown = "required" if default is ... else f"`{default}`"
    return f"`{name}`", _parameter_type(parameter), "" if unset else shown, info.help or ""


def _parameter_type(parameter: ParamMeta) -> str:
    info: Any = parameter.default
    kinds = [kind for kind in typing.get_args(parameter.annotation) if kind is not type(None)]
    whole = (
        kinds[0] if type(None) in typing.get_args(parameter.annotation) else parameter.annotation
    )
    if whole is bool:
        return "flag"
    if typing.get_origin(whole) is typing.Literal:
        return ", ".join(f"`{word}`" for word in typing.get_args(whole))
    repeats = ", repeatable" if typing.get_origin(whole) is list else ""
    if _metavar(info):
        return f"`{_metavar(info).strip('[].')}`{repeats}"
    least = f" >= {info.min}" if info.min is not None else ""
    return {int: "integer", float: "number"}.get(whole, "string") + least + repeats


# documents.md and the schemas


def schemas() -> dict[str, Schema]:
    """The JSON Schema of every document, by its name."""
    found = {}
    for name, added in documents.COMMANDS.items():
        title = f"cnntune {name} --json"
        schema = merged(title, documents.Document, *added)
        if name in documents.FILES:
            other = merged(title, *documents.FILES[name])
            definitions = schema.pop("$defs", {}) | other.pop("$defs", {})
            schema = {"title": title, "anyOf": [schema, other], "$defs": definitions}
        found[name] = schema
    found["could-not-run"] = merged(
        "any command with --json that ends with exit code 2",
        documents.Document,
        documents.CouldNotRun,
    )
    for name, types in documents.FILES.items():
        if name not in documents.COMMANDS:
            found[name] = merged(f"{name}.json", *types)
    found["recipe"] = recipe_schema()
    found["config"] = config_schema()
    return {name: {"$schema": DRAFT, **closed(schema)} for name, schema in found.items()}


def merged(title: str, *types: Any) -> Schema:
    """The schema of an object that has the keys of all these types."""
    properties: Schema = {}
    definitions: Schema = {}
    required: list[str] = []
    for one in types:
        schema = TypeAdapter(one).json_schema(mode="serialization")
        properties |= schema["properties"]
        definitions |= schema.get("$defs", {})
        required += schema.get("required", [])
    whole = {"title": title, "type": "object", "properties": properties, "required": required}
    return whole | ({"$defs": definitions} if definitions else {})


def closed(schema: Any) -> Any:
    """The schema without generated titles, its objects without further keys unless it says so."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if found.get("type") == "object" and "properties" in found:
        found.setdefault("additionalProperties", False)
        for inner in found["properties"].values():
            inner.pop("title", None)
    return found


def recipe_schema() -> Schema:
    """The schema of a recipe, for editors: no key is required, and `[space]` is as it is typed."""
    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    for name in ("Range", "Choice"):
        definitions.pop(name)
    ends = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    value = {"type": ["boolean", "number", "string"]}
    options = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
    definitions["Dimension"] = {
        "description": "The values that a search draws a key from.",
        "type": "object",
        "properties": {"log": ends, "uniform": ends, "choice": options},
        "minProperties": 1,
        "maxProperties": 1,
    }
    one_of = [{"$ref": "#/$defs/Dimension"}, {"$ref": "#/$defs/Space"}]
    definitions["Space"] = {
        "description": "Recipe keys and their dimensions.",
        "type": "object",
        "additionalProperties": {"anyOf": one_of},
    }
    schema["properties"]["space"] = {"$ref": "#/$defs/Space"}
    return schema | {"title": "recipe"}


def config_schema() -> Schema:
    """The schema of a run's `config.json`: every key is there, and no space."""
    schema = Recipe.model_json_schema()
    schema["properties"].pop("space")
    for name in ("Range", "Choice"):
        schema["$defs"].pop(name)
    for table_ in (schema, *schema["$defs"].values()):
        table_["required"] = list(table_["properties"])
    return schema | {"title": "config.json"}


def documents_page(found: Mapping[str, Schema]) -> str:
    """The keys of every document and of the files of a study."""
    common = set(documents.Document.__annotations__)
    whole = [
        "With `--json` a command prints one JSON document on stdout: strict JSON, without NaN and"
        " infinity, which become null. Losses are mean cross-entropy in nats, accuracies are in 0"
        " to 1, and epochs count from 1. The folder `schema` has a JSON Schema (draft 2020-12) of"
        " every document and file.",
        "## Keys of every document\n\n" + _keys(merged("", documents.Document)),
        "## Exit code 2\n\n"
        + lesson(documents.CouldNotRun)
        + " Schema: `schema/could-not-run.json`.\n\n"
        + _keys(merged("", documents.CouldNotRun)),
    ]
    types: Schema = {}
    for name, added in documents.COMMANDS.items():
        told = " ".join(lesson(one) for one in added)
        keys = merged("", *added)
        types |= keys.get("$defs", {})
        whole.append(f"## {name}\n\n{told} Schema: `schema/{name}.json`.\n\n{_keys(keys)}")
    types |= merged("", documents.Document)["$defs"]
    whole.append(FILES)
    for name, added in documents.FILES.items():
        keys = merged("", *added)
        types |= keys.get("$defs", {})
        whole.append(
            f"### {name}.json\n\n{' '.join(lesson(one) for one in added)} Schema:"
            f" `schema/{name}.json`.\n\n{_keys(keys)}"
        )
    columns = [f"`{name}`" for name in Epoch.__annotations__]
    whole.append(f"### metrics.csv\n\nThe columns: {', '.join(columns)}.\n\n{lesson(Epoch)}")
    whole.append("## Types")
    for name, schema in types.items():
        whole.append(f"### {name}\n\n{unwrapped(schema['description'])}\n\n{_keys(schema)}")
    assert common <= set(found["sanity"]["properties"])
    return page("Documents and files", *whole)


FILES = """\
## Files of a study

`sanity.json`, `lr-sweep.json`, `search.json`, `refine.json` and `tune.json` hold the document of
the last such command. `recipe.toml` is the recipe as it was asked for, and the `config.json` of a
run is its recipe with every key and no space (`schema/recipe.json`, `schema/config.json`)."""


def _keys(schema: Schema) -> str:
    required = schema.get("required", [])
    rows = (
        (
            f"`{key}`",
            words(inner),
            "yes" if key in required else "no",
            inner.get("description", ""),
        )
        for key, inner in schema["properties"].items()
    )
    return table(("key", "type", "always there", "meaning"), rows)


if __name__ == "__main__":
    for name, text in pages().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
