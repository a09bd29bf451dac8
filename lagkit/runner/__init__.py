"""Run a notebook headless: validated parameters, one deadline, and a record of what happened.

Knows nothing about incidents: a notebook, its parameters and a place for the result come in, a
:class:`RunRecord` and a clean notebook come out. papermill's own record of a failed run is wrong (a
timeout and a dead kernel are saved as "completed", ``SystemExit(0)`` raises nothing), so the
outcome is computed here from the cells that were seen to start, end and fail.

papermill runs in a child process (``lagkit.runner.engine``), because it can hang after its last
cell and because a kernel must inherit an allow-list of variables, not the secrets of its parent.
A :class:`Standby` starts that child and its kernel before there is anything to run, so that a
report does not wait for imports.
"""

from __future__ import annotations

from lagkit.runner.document import clean_notebook, hide_paths, prepare_notebook
from lagkit.runner.parameters import PARAMETER_TYPES, parameters_model, validate_parameters
from lagkit.runner.record import Progress, RunRecord
from lagkit.runner.standby import Standby, run_notebook

__all__ = [
    "PARAMETER_TYPES",
    "Progress",
    "RunRecord",
    "Standby",
    "clean_notebook",
    "hide_paths",
    "parameters_model",
    "prepare_notebook",
    "run_notebook",
    "validate_parameters",
]
