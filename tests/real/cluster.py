"""A namespace of the lab's cluster for a test: workloads in it, and users with just some rights."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import urllib3
from kubernetes import client

from lab.stack import Stack
from lagkit.runbook import Group, Runbook, Workload
from lagkit.sources import Answer, Scope
from lagkit.sources.kubernetes import KubernetesSource

PATIENCE = 90.0
Rule = tuple[str, Sequence[str], Sequence[str]]
"""API group, resources, verbs."""

NAMESPACED_RULES: tuple[Rule, ...] = (
    ("", ("pods", "events", "resourcequotas", "limitranges"), ("list",)),
    ("", ("pods/log",), ("get",)),
    ("apps", ("deployments", "statefulsets"), ("get",)),
    ("apps", ("replicasets", "controllerrevisions"), ("list",)),
    ("autoscaling", ("horizontalpodautoscalers",), ("list",)),
    ("keda.sh", ("scaledobjects",), ("list",)),
)


def eventually(ask: Callable[[], Any], seen: Callable[[Any], bool]) -> Any:
    """Return the first answer in which it is *seen*; fail when there is none in time."""
    end = time.monotonic() + PATIENCE
    answer: Any = None
    while time.monotonic() < end:
        answer = ask()
        if seen(answer):
            return answer
        time.sleep(0.3)
    pytest.fail(f"not seen within {PATIENCE:.0f} s; last: {answer}")


def without(rules: Sequence[Rule], resource: str) -> list[Rule]:
    """Return *rules* that no longer grant *resource*."""
    return [
        (group, tuple(r for r in resources if r != resource), verbs)
        for group, resources, verbs in rules
        if tuple(resources) != (resource,)
    ]


@dataclass(frozen=True)
class Room:
    """A namespace of its own in the lab's cluster."""

    stack: Stack
    api: client.ApiClient
    name: str
    folder: Path

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    @property
    def apps(self) -> client.AppsV1Api:
        return client.AppsV1Api(self.api)

    def deploy(
        self,
        script: str = "sleep 600",
        *,
        name: str = "api",
        replicas: int = 1,
        pod: dict[str, Any] | None = None,
        **container: Any,
    ) -> None:
        """Create a Deployment whose pods run a shell script."""
        self.apps.create_namespaced_deployment(
            self.name, workload_body(script, name, replicas, pod, container)
        )

    def user(self, rules: Sequence[Rule], *, nodes: bool = False) -> Path:
        """Return the kubeconfig of a new service account with these *rules* in this namespace."""
        name = f"user-{uuid.uuid4().hex[:8]}"
        meta = {"metadata": {"name": name}}
        self.core.create_namespaced_service_account(self.name, meta)
        self.grant(name, rules)
        if nodes:
            self.grant(name, [("", ("nodes",), ("get",))], everywhere=True)
        token = self.core.create_namespaced_service_account_token(
            name, self.name, {"spec": {"expirationSeconds": 600}}
        )
        return self.kubeconfig(token.status.token, name)

    def grant(
        self,
        account: str,
        rules: Sequence[Rule],
        *,
        namespace: str = "",
        everywhere: bool = False,
    ) -> None:
        """Give a service account of this namespace *rules* in *namespace*, or in the cluster."""
        rbac = client.RbacAuthorizationV1Api(self.api)
        space = namespace or self.name
        meta = {"metadata": {"name": f"{account}-{uuid.uuid4().hex[:8]}"}}
        role = {
            **meta,
            "rules": [
                {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
                for group, resources, verbs in rules
            ],
        }
        binding = {
            **meta,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole" if everywhere else "Role",
                "name": meta["metadata"]["name"],
            },
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.name}],
        }
        if everywhere:
            rbac.create_cluster_role(role)
            rbac.create_cluster_role_binding(binding)
        else:
            rbac.create_namespaced_role(space, role)
            rbac.create_namespaced_role_binding(space, binding)

    def token(self, user: str = "admin") -> str:
        """Return the token of one of the lab's own users."""
        document = json.loads(Path(self.stack.kubeconfig(user)).read_text())
        return str(document["users"][0]["user"]["token"])

    def expired_token(self) -> str:
        """Return a token that this cluster signed for a service account and no longer takes.

        The API server gives none of less than ten minutes, so it is signed here with its own key.
        """
        account = self.core.create_namespaced_service_account(
            self.name, {"metadata": {"name": "expired"}}
        )
        now = int(time.time())
        claims = {
            "iss": "https://kubernetes.default.svc",
            "aud": ["https://kubernetes.default.svc"],
            "sub": f"system:serviceaccount:{self.name}:expired",
            "iat": now - 7200,
            "nbf": now - 7200,
            "exp": now - 3600,
            "kubernetes.io": {
                "namespace": self.name,
                "serviceaccount": {"name": "expired", "uid": account.metadata.uid},
            },
        }
        parts = [{"alg": "RS256", "typ": "JWT"}, claims]
        signed = b".".join(_segment(json.dumps(part).encode()) for part in parts)
        openssl = shutil.which("openssl")
        assert openssl is not None
        key = Path(self.stack.kubeconfig()).parent / "sa.key"
        done = subprocess.run(
            [openssl, "dgst", "-sha256", "-sign", str(key)],
            input=signed,
            capture_output=True,
            check=True,
        )
        return (signed + b"." + _segment(done.stdout)).decode()

    def kubeconfig(self, token: str, name: str = "user", **cluster: Any) -> Path:
        """Return a kubeconfig with this *token*; *cluster* overrides the server's entry."""
        document = json.loads(Path(self.stack.kubeconfig()).read_text())
        document["users"][0] = {"name": "u", "user": {"token": token}}
        document["contexts"][0]["context"]["user"] = "u"
        if cluster:
            document["clusters"][0]["cluster"] = cluster
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(document))
        return path

    def runbook(self, name: str = "api", kind: str = "Deployment") -> Runbook:
        """Return a runbook whose group ``g`` is the workload *name* of this namespace."""
        workload = Workload(namespace=self.name, name=name, kind=kind)  # type: ignore[arg-type]
        return Runbook(title="t", groups=(Group(name="g", workload=workload),))

    def read(
        self,
        kubeconfig: Path | str | None = None,
        *,
        name: str = "api",
        kind: str = "Deployment",
        since: str = "1h",
    ) -> Answer:
        """Read the workload *name* as lagkit does; as ``lagkit-ro`` if no *kubeconfig* is given."""
        now = pd.Timestamp.now("UTC")
        scope = Scope("g", (), now - pd.Timedelta(since), now, self.runbook(name, kind))
        source = KubernetesSource(kubeconfig or self.stack.kubeconfig("lagkit-ro"))
        return source.fetch(scope, budget_seconds=30)

    def until(self, frame: str, seen: Callable[[pd.DataFrame], Any], **options: Any) -> Answer:
        """Return the first answer whose *frame* has rows in which it is *seen*."""
        found: Answer = eventually(
            lambda: self.read(**options),
            lambda answer: (
                frame in answer.frames
                and len(answer.frames[frame])
                and bool(seen(answer.frames[frame]))
            ),
        )
        return found


def workload_body(
    script: str,
    name: str,
    replicas: int,
    pod: dict[str, Any] | None,
    container: dict[str, Any],
) -> dict[str, Any]:
    """Return a Deployment's or StatefulSet's body."""
    body = {"name": "app", "image": "api:1", "command": ["sh", "-c", script], **container}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [body], **(pod or {})},
            },
        },
    }


@contextmanager
def passing_on(
    stack: Stack,
    before: Callable[[str], None] = lambda _: None,
    headers: Callable[[dict[str, str]], dict[str, str]] = lambda given: given,
) -> Iterator[str]:
    """Pass GETs on to the real API server; *before* sees each path, *headers* may change an answer.

    What happens between two pages of a list, or to a clock, cannot be timed from outside.
    """
    pool = urllib3.PoolManager(
        ca_certs=str(Path(stack.kubeconfig()).parent / "certs/apiserver.crt")
    )

    class Between(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            before(self.path)
            answer = pool.request(
                "GET",
                stack.kubernetes.url + self.path,
                headers={"Authorization": self.headers.get("Authorization", "")},
            )
            self.send_response_only(answer.status)
            given = {"Date": answer.headers["Date"], "Content-Length": str(len(answer.data))}
            for name, value in headers(given).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Between) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            pool.clear()


def compact(stack: Stack) -> None:
    """Forget every state of etcd but the present one: each open page of a list becomes a 410."""
    etcd = next(p.endpoint for p in stack.ledger.processes if p.name == "etcd")
    with urllib3.PoolManager() as pool:
        # a range over one key that is not there: only the header's revision is wanted
        revision = pool.request("POST", f"{etcd}/v3/kv/range", json={"key": "AA=="}).json()
        body = {"revision": revision["header"]["revision"], "physical": True}
        assert pool.request("POST", f"{etcd}/v3/kv/compaction", json=body).status == 200


def _segment(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
