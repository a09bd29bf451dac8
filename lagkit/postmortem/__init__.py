"""The post-mortem of an incident: facts filled from data, meaning left to people.

:func:`build` makes it of one capture, or of one and a later one; ``lagkit.postmortem.files`` puts
it on disk. What it says is data (``model``), sentences and blanks are made of that (``pages``), and
``lagkit.render`` draws them. What people wrote into the Markdown is kept by ``sections``.
"""

from __future__ import annotations

from lagkit.postmortem.account import Account, build
from lagkit.postmortem.model import Postmortem, json_schema
from lagkit.postmortem.planned import Planned, read_capacity
from lagkit.postmortem.similar import Signatures, read_folder, read_signatures

__all__ = [
    "Account",
    "Planned",
    "Postmortem",
    "Signatures",
    "build",
    "json_schema",
    "read_capacity",
    "read_folder",
    "read_signatures",
]
