"""Run a Kubernetes control plane and one kubelet whose pods are local processes.

Knows how to start etcd, kube-apiserver, controller-manager, scheduler and kubelet on loopback and
whom to let in; knows nothing about the workload. Names are resolved by tokens: `admin`,
`lagkit-ro` (what lagkit's own ``templates/kubernetes-rbac.yaml`` grants) and `nobody` (nothing).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.install import Artifact
from lab.processes import LabError, Ledger, children, free_ports

PART = "kubernetes"
USERS = ("admin", "lagkit-ro", "nobody")
NODE = "localhost"
ETCD_SECONDS = 30.0
API_SECONDS = 90.0
NODE_SECONDS = 60.0
REQUEST_SECONDS = 5.0
OPENSSL_SECONDS = 30.0
TERM_GRACE = 3.0
POD_GRACE = 3.0
# The kubelet's own ceiling is five minutes: nobody waits that long for a lab's crash loop.
CRASH_LOOP_SECONDS = 10
MANIFEST = Path(__file__).resolve().parent.parent / "templates" / "kubernetes-rbac.yaml"
READERS = "lagkit-readers"
# The controller's own period is 15 s, and a test would wait for it twice.
AUTOSCALER_SECONDS = 1
CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "resourcequota-controller",
)


@dataclass(frozen=True)
class Kubernetes:
    """A running control plane. `folder` holds its kubeconfig files."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Return the API server's address."""
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, user: str = "admin") -> str:
        """Return the path of a user's kubeconfig; LabError for an unknown user."""
        if user not in USERS:
            raise LabError(f"no such user {user!r}; the lab has {', '.join(USERS)}")
        return str(self.folder / f"{user}.kubeconfig")


def start(
    ledger: Ledger, artifact: Artifact, *, crash_loop_seconds: int = CRASH_LOOP_SECONDS
) -> Kubernetes:
    """Start the control plane and its node, and grant `lagkit-ro` its role.

    `crash_loop_seconds` is the longest pause between two starts of a crashing container.
    """
    folder = ledger.folder / PART
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    etcd_port, api_port, controllers_port, scheduler_port, kubelet_port = free_ports(5)
    cluster = Kubernetes(folder, api_port)
    _make_service_account_key(folder)
    tokens = _write_tokens(folder)

    etcd_url = f"http://127.0.0.1:{etcd_port}"
    ledger.start(
        "etcd",
        [
            artifact.files["etcd"], "--data-dir", folder / "etcd",
            "--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url,
            "--listen-peer-urls", "http://127.0.0.1:0", "--unsafe-no-fsync", "--log-level", "warn",
        ],
        part=PART, endpoint=etcd_url,
        # An open port is not enough: health is true only once there is a leader.
        ready=lambda: _missing(f"{etcd_url}/health", "true"),
        timeout=ETCD_SECONDS, term_grace=0,
    )  # fmt: skip
    ledger.start(
        "kube-apiserver",
        [
            artifact.files["kube-apiserver"],
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={api_port}",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={folder / 'certs'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder / 'sa.pub'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}",
            # Pods here need no tokens, and no controller makes their accounts.
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=Hostname",
        ],
        part=PART, endpoint=cluster.url,
        ready=lambda: _missing(f"{cluster.url}/readyz", "ok"),
        timeout=API_SECONDS, term_grace=0,
    )  # fmt: skip
    _write_kubeconfigs(cluster, tokens)
    admin = cluster.kubeconfig("admin")
    apply_manifest(admin, MANIFEST)
    for name, extra, port in (
        (
            "kube-controller-manager",
            (
                f"--controllers={','.join(CONTROLLERS)}",
                f"--service-account-private-key-file={folder / 'sa.key'}",
                f"--horizontal-pod-autoscaler-sync-period={AUTOSCALER_SECONDS}s",
            ),
            controllers_port,
        ),
        ("kube-scheduler", (), scheduler_port),
    ):
        url = f"https://127.0.0.1:{port}"
        ledger.start(
            name,
            [artifact.files[name], "--kubeconfig", admin, "--leader-elect=false",
             "--bind-address=127.0.0.1", f"--secure-port={port}", *extra],
            part=PART, endpoint=url,
            ready=lambda url=url: _missing(f"{url}/healthz", "ok"),  # type: ignore[misc]
            timeout=NODE_SECONDS, term_grace=TERM_GRACE,
        )  # fmt: skip
    ledger.start(
        "kubelet",
        [
            artifact.files["kubelet"], "-kubeconfig", admin, "-node", NODE,
            "-port", str(kubelet_port), "-root", folder / "kubelet",
            "-tls-cert", folder / "certs" / "apiserver.crt",
            "-tls-key", folder / "certs" / "apiserver.key",
            "-max-backoff", f"{crash_loop_seconds}s",
        ],
        part=PART, endpoint=f"https://127.0.0.1:{kubelet_port}",
        ready=lambda: _missing(
            f"{cluster.url}/api/v1/nodes/{NODE}", '"KubeletReady"', tokens["admin"]
        ),
        timeout=NODE_SECONDS,
        # kubemark makes a folder under TMPDIR; keep it inside the lab.
        env={"TMPDIR": str(folder)},
        term_grace=TERM_GRACE,
    )  # fmt: skip
    return cluster


def stop_pods(ledger: Ledger) -> None:
    """End the pods' processes: the kubelet's children, each with its group.

    The kubelet is frozen first, so that it starts no new ones meanwhile. Without a kubelet of
    this lab nothing happens.
    """
    kubelet = next((p for p in ledger.processes if p.name == "kubelet"), None)
    if kubelet is None:
        return
    ledger.signal("kubelet", signal.SIGSTOP)
    pods = children(kubelet.pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pods:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)
        end = time.monotonic() + POD_GRACE
        while children(kubelet.pid) and time.monotonic() < end:
            time.sleep(0.05)


def _missing(url: str, wanted: str, token: str | None = None) -> str | None:
    """Return None when an address answers with `wanted` in its body, else what it did."""
    # The servers sign their own certificates, made a moment ago, on this machine's loopback.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(
            request, timeout=REQUEST_SECONDS, context=context if url.startswith("https") else None
        ) as answer:
            body = answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return f"{url} answered {error.code}"
    except OSError as error:
        return f"{url}: {error}"
    return None if wanted in body else f"{url} does not say {wanted} yet"


def _make_service_account_key(folder: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise LabError("kubernetes needs openssl on PATH: apt-get install -y openssl")
    for arguments in (
        ("genrsa", "-out", "sa.key", "2048"),
        ("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"),
    ):
        done = subprocess.run(
            [openssl, *arguments], cwd=folder, capture_output=True, text=True,
            timeout=OPENSSL_SECONDS,
        )  # fmt: skip
        if done.returncode != 0:
            raise LabError(f"openssl {arguments[0]} ended with {done.returncode}: {done.stderr}")


def _write_tokens(folder: Path) -> dict[str, str]:
    tokens = {user: secrets.token_hex(16) for user in USERS}
    groups = {"admin": "system:masters", "lagkit-ro": READERS}
    lines = [f'{token},{user},{user},"{groups.get(user, "")}"' for user, token in tokens.items()]
    path = folder / "tokens.csv"
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    return tokens


def _write_kubeconfigs(cluster: Kubernetes, tokens: dict[str, str]) -> None:
    for user, token in tokens.items():
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            "clusters": [
                {
                    "name": "lab",
                    "cluster": {
                        "server": cluster.url,
                        "certificate-authority": str(cluster.folder / "certs" / "apiserver.crt"),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": token}}],
        }
        path = Path(cluster.kubeconfig(user))
        path.touch(mode=0o600)
        # JSON is YAML.
        path.write_text(json.dumps(content, indent=1) + "\n")


def apply_manifest(kubeconfig: str, manifest: Path) -> None:
    """Create the objects of a manifest; those that are there already are left as they are."""
    import yaml
    from kubernetes import client, config, utils

    api: Any = config.new_client_from_config(config_file=kubeconfig)
    documents = [item for item in yaml.safe_load_all(manifest.read_text()) if item]
    try:
        for document in documents:
            try:
                utils.create_from_dict(api, document)
            except utils.FailToCreateError as error:
                conflicts = [fault for fault in error.api_exceptions if fault.status == 409]
                if len(conflicts) != len(error.api_exceptions):
                    raise LabError(f"{manifest.name} was refused: {error}") from error
            except client.ApiException as error:
                raise LabError(f"{manifest.name} was refused: {error.reason}") from error
    finally:
        api.close()
