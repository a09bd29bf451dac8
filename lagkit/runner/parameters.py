"""A notebook's parameters, checked before they reach papermill, which pastes them as code.

Knows the parameters cell (``name: type = literal`` lines) and refuses everything else.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from lagkit.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

PARAMETER_CHARACTERS = 4096
PARAMETER_TYPES: Mapping[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


def validate_parameters(source: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return *given* after checking it against a parameters cell; nothing is coerced.

    Raises
    ------
    UsageError
        Unknown name (near ones are offered), wrong type, or a ``*_path`` that leaves the folder.
    """
    from pydantic import ValidationError

    model = parameters_model(source)
    known = sorted(model.model_fields)
    for name in given:
        if name not in model.model_fields:
            near = difflib.get_close_matches(str(name), known, n=1)
            msg = f"The notebook has no parameter {str(name)[:80]!r}."
            raise UsageError(
                msg,
                hint=f"Near: {near[0]}." if near else f"It has: {', '.join(known) or 'none'}.",
            )
    try:
        model.model_validate(dict(given))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        )
        msg = f"The notebook's parameters cannot be used: {faults}"
        raise UsageError(msg) from None
    for name, value in given.items():
        if isinstance(value, str):
            _refuse_text(name, value)
    return dict(given)


def parameters_model(source: str) -> type[BaseModel]:
    """Build a strict pydantic model from a parameters cell of ``name: type = literal`` lines.

    Raises
    ------
    UsageError
        A line is something else, so that its parameter could not be checked.
    """
    from pydantic import ConfigDict, create_model

    fields: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if not (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(node.annotation, ast.Name)
            and node.annotation.id in PARAMETER_TYPES
            and node.value is not None
        ):
            msg = (
                f"Line {node.lineno} of the notebook's parameters cell is not `name: type = value`."
            )
            raise UsageError(msg, hint=f"Types: {', '.join(PARAMETER_TYPES)}; values: literals.")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            msg = f"The default of parameter {node.target.id} is not a literal."
            raise UsageError(msg) from None
        fields[node.target.id] = (PARAMETER_TYPES[node.annotation.id], default)
    return create_model(
        "Parameters", __config__=ConfigDict(strict=True, extra="forbid", frozen=True), **fields
    )


def _refuse_text(name: str, value: str) -> None:
    if len(value) > PARAMETER_CHARACTERS or not value.isprintable():
        msg = f"Parameter {name} is too long or holds control characters."
        raise UsageError(msg)
    if name.endswith("_path") and value:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "{" in value or "}" in value:
            msg = f"Parameter {name} must be a path inside the output folder, without braces."
            raise UsageError(msg, hint=f"Got {value!r}.")


def with_defaults(source: str, values: Mapping[str, Any]) -> str:
    """Return the parameters cell with *values* as its defaults, comments kept."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.value is not None
            and node.value.end_col_offset is not None
            and node.target.id in values
        ):
            # Offsets of ast count UTF-8 bytes.
            line = lines[node.lineno - 1].encode()
            changed = repr(values[node.target.id]).encode()
            lines[node.lineno - 1] = (
                line[: node.value.col_offset] + changed + line[node.value.end_col_offset :]
            ).decode()
    return "\n".join(lines)
