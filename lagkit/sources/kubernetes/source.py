"""``KubernetesSource``: one cluster as a source of an investigation."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from lagkit.sources import Answer, Blind, Deadline, Questions, Scope, Status
from lagkit.sources.kubernetes.reading import Reading
from lagkit.sources.kubernetes.session import Found, Session

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())


class KubernetesSource:
    """One cluster, through a kubeconfig or the pod's own service account."""

    name = "kubernetes"

    def __init__(
        self,
        kubeconfig: Path | str | None = None,
        context: str | None = None,
        in_cluster: bool = False,
    ) -> None:
        """Read the cluster of *context* in *kubeconfig*, or with *in_cluster* the one around us."""
        self._kubeconfig = kubeconfig
        self._context = context
        self._in_cluster = in_cluster

    def fetch(self, scope: Scope, *, budget_seconds: float) -> Answer:
        """Read the workloads of *scope*; return within about *budget_seconds*, never raise."""
        started = time.monotonic()
        questions = Questions(self.name)
        found = Found()
        session = Session(
            self._kubeconfig,
            self._context,
            self._in_cluster,
            Deadline(budget_seconds),
            questions,
            found,
        )
        try:
            Reading(scope, session, found).run()
        except Exception as error:  # a source never raises: whatever was read so far still counts
            _LOG.exception("reading Kubernetes stopped early")
            found.blind(Blind("rest of Kubernetes", f"{type(error).__name__}: {error}"[:500]))
        typed = found.typed()
        status: Status = "ok"
        if not found.reached or (found.targets and not found.answered):
            status = "unavailable"
        elif found.blinds:
            status = "partial"
        return Answer(
            source=self.name,
            status=status,
            detail="; ".join(found.notes) or "nothing was answered",
            seconds=round(time.monotonic() - started, 3),
            frames=typed,
            queries=questions.frame(),
            # several threads find them, in any order
            blind=tuple(sorted(found.blinds, key=lambda blind: (blind.what, blind.why))),
            facts=dict(sorted(found.facts.items())),
        )
