"""What is wrong with a value and what is allowed, in the words that users read."""

import difflib
import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

MAX_SHOWN = 80  # characters of a wrong value in a message


@dataclass(frozen=True)
class Problem:
    """What is wrong with one key: what was found and what is allowed."""

    key: str
    message: str


def problems_from(
    error: ValidationError, prefix: str = "", schema: type[BaseModel] | None = None
) -> list[Problem]:
    """A pydantic error as problems in cnntune's words; `schema` has the keys that exist."""
    found = []
    for detail in error.errors():
        path = ".".join(str(part) for part in detail["loc"])
        key = ".".join(part for part in (prefix, path) if part)
        found.append(Problem(key or "(top level)", _message(detail, path, schema)))
    return found


TYPE_MESSAGES = {
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a string in quotes",
    "finite_number": "must be finite",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "list_type": "must be a list",
    "string_pattern_mismatch": "must be letters, digits, '.', '_' and '-', 64 at most",
}


def _message(detail: Any, path: str, schema: type[BaseModel] | None) -> str:
    kind, limits, found = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "extra_forbidden":
        return unknown(path.rpartition(".")[2], _allowed_keys(path, schema), "key")
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", limits["expected"])
        return "must be " + unknown(found, allowed, "value")
    signs = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<"}
    signs["less_than_equal"] = "<="
    if kind in signs:
        limit = next(iter(limits.values()))
        return f"must be {signs[kind]} {limit:g} (got {shown(found)})"
    return f"{TYPE_MESSAGES.get(kind, detail['msg'])} (got {shown(found)})"


def shown(found: Any) -> str:
    """`found` as Python writes it, cut short where it is long or deep."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxother = writer.maxlong = MAX_SHOWN
    return writer.repr(found)


def unknown(found: Any, allowed: Sequence[str], noun: str) -> str:
    """The message for a word that is not among the allowed ones."""
    listed = ", ".join(allowed)
    if noun == "value":
        return f"one of {listed} (got {shown(found)}{did_you_mean(found, allowed)})"
    return f"unknown {noun}{did_you_mean(found, allowed)}; allowed: {listed}"


def did_you_mean(found: Any, allowed: Sequence[str]) -> str:
    """`; did you mean 'sgd'?`, or nothing where no allowed word is similar."""
    near = difflib.get_close_matches(str(found), allowed, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _allowed_keys(path: str, schema: type[BaseModel] | None) -> list[str]:
    section, _, _ = path.rpartition(".")
    fields = schema.model_fields if schema is not None else {}
    owner = fields[section].annotation if section in fields else schema
    return list(owner.model_fields) if isinstance(owner, type) else []
