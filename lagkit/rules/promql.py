"""PromQL as a tree of a few kinds of node; the parser is a library's, and is seen here only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

MOST_OPERATORS = 250
"""Deeper expressions make the parser (a Rust binding) overrun its stack; rules are not so long."""
MOST_CHARACTERS = 20_000
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`')
_OPERATORS = re.compile(r"[-+*/%^(]|[<>=!]+|\b(?:and|or|unless|atan2|offset)\b", re.IGNORECASE)

Kind = Literal["selector", "call", "aggregate", "binary", "number", "other"]


class Unparsable(ValueError):
    """The text is no PromQL, or more than is looked at."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node; parentheses and unary signs are gone, a range or subquery is its inner vector."""

    kind: Kind
    name: str = ""
    """Metric, function, aggregation or operator."""
    children: tuple[Node, ...] = ()
    value: float = 0.0
    """Of a number."""
    as_bool: bool = False
    """Whether a comparison gives 0 and 1 instead of leaving things out."""

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def metrics(self) -> frozenset[str]:
        """Return the names of all metrics below."""
        return frozenset(one.name for one in self.walk() if one.kind == "selector" and one.name)


def parse(text: str) -> Node:
    """Return the tree of *text*; raises Unparsable."""
    import promql_parser

    operators = len(_OPERATORS.findall(_STRINGS.sub('""', text)))
    if len(text) > MOST_CHARACTERS or operators > MOST_OPERATORS:
        msg = f"longer than is looked at ({operators} operators, {len(text):,} characters)"
        raise Unparsable(msg)
    try:
        return _node(promql_parser.parse(text))
    except ValueError as error:
        raise Unparsable(str(error)) from None


def _node(given: Any) -> Node:
    match type(given).__name__:
        case "VectorSelector":
            return Node("selector", _metric(given))
        case "MatrixSelector":
            return Node("selector", _metric(given.vector_selector))
        case "ParenExpr" | "SubqueryExpr":
            return _node(given.expr)
        case "UnaryExpr":
            inner = _node(given.expr)
            return Node("number", value=-inner.value) if inner.kind == "number" else inner
        case "NumberLiteral":
            return Node("number", value=float(given.val))
        case "Call":
            return Node("call", given.func.name, tuple(_node(one) for one in given.args))
        case "AggregateExpr":
            return Node("aggregate", str(given.op), (_node(given.expr),))
        case "BinaryExpr":
            modifier = given.modifier
            as_bool = bool(modifier is not None and modifier.return_bool)
            return Node("binary", str(given.op), (_node(given.lhs), _node(given.rhs)), 0.0, as_bool)
        case _:
            return Node("other")


def _metric(selector: Any) -> str:
    if selector.name:
        return str(selector.name)
    for matcher in selector.matchers.matchers:
        if matcher.name == "__name__" and str(matcher.op).endswith(".Equal"):
            return str(matcher.value)
    return ""
