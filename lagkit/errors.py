"""The errors lagkit raises, each with the exit status the command line ends with.

::

    LagkitError                   1  a fault of lagkit itself
    ├── UsageError                2  bad option, parameter or configuration
    ├── NothingThere              3  unknown group, empty window, not an incident file
    ├── NoSourceReadable          4  every configured source failed
    └── ReportFailed              5  the verdict is written, the report is not

Two statuses more are answers and no errors: ``GETTING_WORSE`` and ``TIMED_OUT``.

A source that cannot answer is not an error: it is a finding, carried in the incident's coverage.
Texts say what failed, where, how long it was tried, what goes on without it and what to do next;
never a secret.
"""

from __future__ import annotations

from typing import ClassVar

GETTING_WORSE = 6
"""``watch``: the backlog grows; ``verify``: a check failed. It is not over."""
TIMED_OUT = 7
"""``watch``: neither caught up nor getting worse when its time was over."""


class LagkitError(Exception):
    """Base of every error lagkit raises on purpose; *hint* is the next step for a tired person."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        """Return the message, and the hint on a line of its own."""
        message = super().__str__()
        return f"{message}\n{self.hint}" if self.hint else message


class UsageError(LagkitError):
    """An option, a parameter or a line of configuration cannot be used as written."""

    exit_status = 2


class NothingThere(LagkitError):
    """What was asked for does not exist: a group, a sample in the window, an incident file."""

    exit_status = 3


class NoSourceReadable(LagkitError):
    """No configured source could be read, so there is nothing to reason from."""

    exit_status = 4


class ReportFailed(LagkitError):
    """The verdict stands on disk, but the notebook or a rendering of it failed."""

    exit_status = 5
