"""The capacity trend: will a group keep up, until when, and what would a stop cost.

>>> from lagkit import capacity
>>> found = capacity.trends(capacity.demo())
>>> found.answer.schema
'lagkit.capacity/1'

``history`` is what was read and its file, ``courses`` its groups as arrays, ``incidents`` the hours
set apart and the rate seen in them, ``forecast`` demand ahead, ``queueing`` what a stop leads to;
``outlook`` joins them, ``advice`` says it in a sentence, and ``charts``, ``tables`` and ``render``
show it. Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lagkit.capacity.advice import action_items
    from lagkit.capacity.history import History, demo, open_history
    from lagkit.capacity.outlook import Capacities, trends

_HOME = {
    "Capacities": "outlook",
    "History": "history",
    "action_items": "advice",
    "demo": "history",
    "open_history": "history",
    "trends": "outlook",
}

__all__ = ["Capacities", "History", "action_items", "demo", "open_history", "trends"]


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use."""
    if name not in _HOME:
        msg = f"module 'lagkit.capacity' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"lagkit.capacity.{_HOME[name]}"), name)
    globals()[name] = value
    return value
