"""What a healthy value of a probe is, as people write it: ``< 100``, ``>= 0.5``, ``== ok``."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

_COMPARISON = re.compile(r"\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a healthy value is: ``< 100``, ``== "ok"``; without one, anything that is not falsy."""

    operator: str = ""
    bound: Any = None

    @classmethod
    def parse(cls, text: str) -> Comparison:
        """Read *text*; the bound is JSON, and a bare word is itself.

        Raises
        ------
        ValueError
            It is no comparison, or orders by something that is not a number.
        """
        if not text.strip():
            return cls()
        match = _COMPARISON.fullmatch(text)
        if match is None:
            msg = f"{text!r} is no comparison; write it as < 100, >= 0.5 or == ok"
            raise ValueError(msg)
        try:
            bound = json.loads(match[2])
        except ValueError:
            bound = match[2]
        if match[1] in "<=>=" and match[1] != "==" and number_of(bound) is None:
            msg = f"{match[2]!r} is no number to compare with by {match[1]}"
            raise ValueError(msg)
        return cls(match[1], bound)

    def holds(self, value: Any) -> bool:
        """Say whether *value* is healthy; what cannot be compared is not."""
        if not self.operator:
            return bool(value)
        if self.operator in ("==", "!="):
            return (value == self.bound) is (self.operator == "==")
        number, bound = number_of(value), number_of(self.bound)
        if number is None or bound is None:
            return False
        return {
            "<": number < bound,
            "<=": number <= bound,
            ">": number > bound,
            ">=": number >= bound,
        }[self.operator]


def number_of(value: Any) -> float | None:
    """Return *value* as a finite number; None for everything else, true and false included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
