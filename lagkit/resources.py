"""Where shipped files are: ``notebooks/`` and ``templates/``, from a wheel or a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_path(relative: str) -> Path:
    """Return the path of a shipped file such as ``templates/runbook.toml``.

    A wheel carries the folders inside the package (``lagkit/_shipped``); a checkout has them at
    its root.

    Raises
    ------
    FileNotFoundError
        In neither place: the installation is damaged.
    """
    for base in (_PACKAGE / "_shipped", _PACKAGE.parent):
        candidate = base / relative
        if candidate.exists():
            return candidate
    msg = f"lagkit was installed without {relative}; install it again"
    raise FileNotFoundError(msg)
