"""What lagkit may do in a cluster, asked of a real API server: all it needs, and not one write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
import yaml
from kubernetes import client

from lab.stack import Stack
from lagkit.resources import resource_path
from lagkit.sources.kubernetes import RBAC_FILE

from .cluster import NAMESPACED_RULES, Room, Rule, eventually, without, workload_body

RULE = re.compile(r'apiGroups: \["([^"]*)"\], resources: \["([^"]+)"\], verbs: \["([^"]+)"\]')
ADDED = re.compile(r"Add to a Role in namespace (\S+):|Add to a ClusterRole with")
PATHS = {
    "pods": "/api/v1/namespaces/{}/pods",
    "events": "/api/v1/namespaces/{}/events",
    "newer events": "/apis/events.k8s.io/v1/namespaces/{}/events",
    "deployments": "/apis/apps/v1/namespaces/{}/deployments",
    "statefulsets": "/apis/apps/v1/namespaces/{}/statefulsets",
    "replicasets": "/apis/apps/v1/namespaces/{}/replicasets",
    "controllerrevisions": "/apis/apps/v1/namespaces/{}/controllerrevisions",
    "horizontalpodautoscalers": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "scaledobjects": "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects",
    "resourcequotas": "/api/v1/namespaces/{}/resourcequotas",
    "limitranges": "/api/v1/namespaces/{}/limitranges",
    "nodes": "/api/v1/nodes",
    "namespaces": "/api/v1/namespaces",
    "secrets": "/api/v1/namespaces/{}/secrets",
    "configmaps": "/api/v1/namespaces/{}/configmaps",
    "serviceaccounts": "/api/v1/namespaces/{}/serviceaccounts",
    "clusterrolebindings": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}
ACTIONS = (
    ("POST", "/api/v1/namespaces/{}/pods/api/exec?command=id"),
    ("GET", "/api/v1/namespaces/{}/pods/api/exec?command=id"),
    ("POST", "/api/v1/namespaces/{}/pods/api/attach"),
    ("POST", "/api/v1/namespaces/{}/pods/api/portforward"),
    ("POST", "/api/v1/namespaces/{}/pods/api/eviction"),
    ("POST", "/api/v1/namespaces/{}/pods/api/binding"),
    ("PATCH", "/api/v1/namespaces/{}/pods/api/ephemeralcontainers"),
    ("PATCH", "/apis/apps/v1/namespaces/{}/deployments/api/scale"),
    ("PATCH", "/apis/apps/v1/namespaces/{}/deployments/api/status"),
    ("POST", "/api/v1/namespaces/{}/serviceaccounts/default/token"),
    ("GET", "/api/v1/nodes/localhost/proxy/pods"),
    ("GET", "/api/v1/namespaces/{}/pods/api/proxy/"),
)


class Door:
    """The API server as one of the lab's users meets it, without any client in between."""

    def __init__(self, room: Room, user: str) -> None:
        certificate = Path(room.stack.kubeconfig()).parent / "certs" / "apiserver.crt"
        self._pool = urllib3.PoolManager(ca_certs=str(certificate))
        self._room, self._token = room, room.token(user)

    def knock(self, method: str, path: str, body: object = None) -> int:
        kind = "merge-patch+json" if method == "PATCH" else "json"
        answer = self._pool.request(
            method,
            self._room.stack.kubernetes.url + path.format(self._room.name),
            body=json.dumps(body if body is not None else {}),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": f"application/{kind}",
            },
        )
        self.said = answer.data
        return int(answer.status)

    def close(self) -> None:
        self._pool.clear()


@pytest.fixture
def reader(room: Room) -> Iterator[Door]:
    door = Door(room, "lagkit-ro")
    yield door
    door.close()


def furnish(room: Room) -> None:
    """Fill the room with one of everything that lagkit reads."""
    room.deploy("echo INFO ready; sleep 600")
    client.AutoscalingV2Api(room.api).create_namespaced_horizontal_pod_autoscaler(
        room.name,
        {
            "metadata": {"name": "api"},
            "spec": {
                "maxReplicas": 2,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"},
            },
        },
    )
    room.core.create_namespaced_resource_quota(
        room.name, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "5"}}}
    )
    room.until("logs", len)
    room.until("quotas", len)
    room.until("autoscalers", len)


def test_the_shipped_manifest_is_enough_for_everything(room: Room) -> None:
    furnish(room)
    answer = room.read()
    assert answer.status == "ok", answer.blind
    assert "denied" not in set(answer.queries["outcome"])
    filled = {name for name, table in answer.frames.items() if len(table)}
    assert filled == {
        "pods", "logs", "events", "workloads", "rollouts", "autoscalers", "nodes", "quotas",
    }  # fmt: skip


def test_the_shipped_manifest_grants_get_and_list_alone(room: Room, reader: Door) -> None:
    """Asked of the server: what may this user do? Beside its rules everyone may ask that."""
    assert (
        reader.knock(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            {"spec": {"namespace": room.name}},
        )
        == 201
    )
    rules = json.loads(reader.said)["status"]["resourceRules"]
    granted = [
        rule
        for rule in rules
        if not set(rule["apiGroups"]) & {"authorization.k8s.io", "authentication.k8s.io"}
    ]
    assert {verb for rule in granted for verb in rule["verbs"]} == {"get", "list"}
    resources = {resource for rule in granted for resource in rule["resources"]}
    documents = yaml.safe_load_all(resource_path(RBAC_FILE).read_text())
    shipped = {
        resource
        for document in documents
        for rule in document.get("rules", ())
        for resource in rule["resources"]
    }
    assert resources == shipped
    assert not resources & {"secrets", "configmaps", "*"}


@pytest.mark.parametrize("resource", sorted(PATHS))
def test_every_write_is_refused_by_the_server(room: Room, reader: Door, resource: str) -> None:
    path = PATHS[resource]
    statuses = {
        "create": reader.knock("POST", path),
        "update": reader.knock("PUT", f"{path}/api"),
        "patch": reader.knock("PATCH", f"{path}/api"),
        "delete": reader.knock("DELETE", f"{path}/api"),
        "delete all": reader.knock("DELETE", path),
    }
    assert set(statuses.values()) == {403}, statuses


@pytest.mark.parametrize(("method", "path"), ACTIONS)
def test_every_way_into_a_pod_or_around_it_is_refused(reader: Door, method: str, path: str) -> None:
    assert reader.knock(method, path) == 403


@pytest.mark.parametrize("resource", ["secrets", "configmaps", "serviceaccounts"])
def test_what_lagkit_does_not_need_is_unreadable(reader: Door, resource: str) -> None:
    assert reader.knock("GET", PATHS[resource]) == 403
    assert reader.knock("GET", f"{PATHS[resource]}/api") == 403
    assert reader.knock("GET", f"{PATHS[resource]}?watch=1") == 403


# -- with less than that --------------------------------------------------------------------------

LOST = {
    "pods": {"pods", "logs", "nodes"},
    "pods/log": {"logs"},
    "events": {"events"},
    "deployments": {"workloads"},
    "replicasets": {"rollouts"},
    "horizontalpodautoscalers": {"autoscalers"},
    "resourcequotas": {"quotas"},
    "limitranges": set[str](),
    "nodes": {"nodes"},
}


@pytest.fixture(scope="module")
def furnished(control_plane: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    from kubernetes import config

    with config.new_client_from_config(config_file=control_plane.kubeconfig()) as api:
        made = Room(control_plane, api, "furnished", tmp_path_factory.mktemp("furnished"))
        made.core.create_namespace({"metadata": {"name": made.name}})
        furnish(made)
        yield made
        made.core.delete_namespace(made.name)


@pytest.mark.parametrize("resource", sorted(LOST))
def test_one_right_less_costs_what_it_shows_and_is_named_with_its_rule(
    furnished: Room, resource: str
) -> None:
    user = furnished.user(without(NAMESPACED_RULES, resource), nodes=resource != "nodes")
    answer = furnished.read(user)
    assert answer.status == "partial"
    named = [blind for blind in answer.blind if f" {resource} in " in blind.why]
    assert named, answer.blind
    rule = RULE.search(named[0].fix)
    assert rule
    assert rule[2] == resource
    assert "(403): " in named[0].why, "what goes on without it"
    everything = {"pods", "logs", "events", "workloads", "rollouts", "autoscalers", "nodes",
                  "quotas"}  # fmt: skip
    filled = {name for name, table in answer.frames.items() if len(table)}
    assert filled == everything - LOST[resource]


@pytest.fixture(scope="module")
def stateful(furnished: Room) -> Room:
    """Give the furnished namespace a StatefulSet too."""
    body = workload_body("echo INFO ready; sleep 600", "db", 1, None, {})
    body["spec"]["serviceName"] = "db"
    furnished.apps.create_namespaced_stateful_set(furnished.name, body)
    furnished.until("logs", len, name="db", kind="StatefulSet")
    return furnished


@pytest.mark.parametrize(
    ("resource", "lost"), [("statefulsets", "workloads"), ("controllerrevisions", "rollouts")]
)
def test_one_right_less_on_a_stateful_set_is_named_with_its_rule(
    stateful: Room, resource: str, lost: str
) -> None:
    user = stateful.user(without(NAMESPACED_RULES, resource), nodes=True)
    answer = stateful.read(user, name="db", kind="StatefulSet")
    # events of nodes lie in another namespace, where this account has no right at all
    (blind,) = [one for one in answer.blind if one.what != "events in default"]
    assert f" {resource} in " in blind.why
    rule = RULE.search(blind.fix)
    assert rule
    assert (rule[1], rule[2]) == ("apps", resource)
    filled = {name for name, table in answer.frames.items() if len(table)}
    assert lost not in filled
    assert {"pods", "logs", "events", "workloads", "rollouts"} - {lost} <= filled


def test_doing_what_each_fix_says_ends_with_everything_read(furnished: Room) -> None:
    """A new user has no right at all; three rounds, for logs and nodes show once pods are read."""
    user = furnished.user([])
    account = user.name.removesuffix(".kubeconfig")

    def granted(answer) -> bool:
        if answer.status == "ok":
            return True
        for blind in answer.blind:
            rule, place = RULE.search(blind.fix), ADDED.search(blind.fix)
            assert rule, blind
            assert place, blind
            one: Rule = (rule[1], (rule[2],), (rule[3],))
            furnished.grant(account, [one], namespace=place[1] or "", everywhere=place[1] is None)
        return False

    answer = eventually(lambda: furnished.read(user), granted)
    assert {name for name, table in answer.frames.items() if len(table)} >= {"logs", "nodes"}
