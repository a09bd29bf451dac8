"""Every command that lagkit prints is one that its program takes.

kubectl's are parsed by kubectl itself, against an address where nothing answers: what it says then
is the network's fault and not the command's. rpk cannot be had from the package registries that
this project may use, so its commands are held against a table of flags written by hand: only
`group seek` was compared with the documents. What it passes may still be refused by a real rpk.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable

import incidents
import pytest

from lab.install import Artifact, install
from lagkit import remedies
from lagkit.model import Finding
from lagkit.payloads import payload
from lagkit.peeking import Shown, Standing, skip
from lagkit.runbook import load

from .conftest import require

# Command → (fewest and most words after it, flags with a value, flags without one).
RPK = {
    ("group", "describe"): (1, None, {"-i"}, {"--print-commits", "-c", "--print-summary", "-s"}),
    ("group", "list"): (0, 0, set(), set()),
    ("group", "seek"): (
        1,
        1,
        {"--to", "--to-file", "--to-group", "--topics"},
        {"--allow-new-topics"},
    ),
    ("topic", "describe"): (1, None, set(), {"-p", "-c", "-s", "-a"}),
    ("topic", "list"): (0, None, set(), {"--detailed", "-d"}),
    ("topic", "consume"): (
        1,
        None,
        {"--partitions", "-p", "--offset", "-o", "--num", "-n", "--format", "-f"},
        set(),
    ),
    ("topic", "add-partitions"): (1, None, {"--num", "-n"}, {"--force", "-f"}),
    ("topic", "alter-config"): (1, None, {"--set", "-s", "--delete", "-d"}, {"--dry"}),
    ("cluster", "health"): (0, 0, set(), {"--watch", "-w", "--exit-when-healthy", "-e"}),
    ("cluster", "txn", "list"): (0, 0, set(), {"--print-users"}),
    ("cluster", "quotas", "describe"): (
        0,
        0,
        {"--any", "--default", "--name", "--strictly"},
        {"--strict"},
    ),
}
WRONG = (
    "rpk topic alter-config t --set partition.count=6",
    "rpk group seek g --to-timestamp 1703750400000",
    "rpk topic describe t --print-datadir",
    "rpk group seek g --to 12345",
    "rpk group seek g",
    "rpk topic add-partitions --num 6",
    "rpk topic frobnicate t",
    "rpk topic consume t --num many",
)
"""What the seed runbook, or a slip, would print."""


def faults_of_rpk(words: list[str]) -> list[str]:
    """Return what rpk would say against *words* (after its own name)."""
    name = next((name for name in RPK if tuple(words[: len(name)]) == name), None)
    if name is None:
        return [f"unknown command {' '.join(words[:2])!r}"]
    fewest, most, valued, bare = RPK[name]
    plain, given, rest = [], {}, list(words[len(name) :])
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            plain.append(word)
        elif flag in bare and not equals:
            given[flag] = ""
        elif flag in valued and (equals or rest):
            given[flag] = value if equals else rest.pop(0)
        else:
            return [f"unknown flag: {word}"]
    found = []
    if len(plain) < fewest or (most is not None and len(plain) > most):
        found.append(f"accepts {fewest} words, received {len(plain)}")
    for flag in ("--num", "--partitions"):
        if flag in given and not re.fullmatch(r"\d+(,\d+)*", given[flag]):
            found.append(f"{flag} {given[flag]!r} is no number")
    if "--set" in given and (
        "=" not in given["--set"] or given["--set"].startswith("partition.count")
    ):
        found.append(f"invalid topic property: {given['--set']}")
    if name == ("group", "seek"):
        if len({"--to", "--to-file", "--to-group"} & given.keys()) != 1:
            found.append("exactly one of --to, --to-file, --to-group")
        if "--to" in given and not re.fullmatch(r"start|end|\d{10}|\d{13}|\d{19}", given["--to"]):
            found.append(f"unable to parse --to {given['--to']!r}")
    return found


def names():
    made = incidents.make("poison_retry")
    frozen = Finding(f"partition_frozen:{incidents.TOPIC}/2", "", "prometheus", "", value=1284.0)
    return remedies.names(made, [frozen], unread=5931.0, members=2.0, usual_members=3.0)


def shown(offset: int) -> Shown:
    raw = payload(b"{oops")
    return Shown(offset, "at", None, "", 5, payload(None), raw, ())


STANDING = Standing("g", "t", 2, 1284, 0, 2000, "Stable", 3)
BOOK = load()
PRINTED = [
    *filter(None, (remedies.fill(remedy.command, names()) for remedy in BOOK.remedies)),
    *(
        step.command
        for step in skip(
            Standing("deployment-worker", "deploy-requests", 2, 1284, 0, 2000, "Stable", 3),
            shown(1284),
            BOOK,
        ).steps
    ),
]
PRINTED = list(dict.fromkeys(PRINTED))
PRINTED_KUBECTL = [line for line in PRINTED if line.startswith("kubectl ") and " rpk " not in line]
PRINTED_RPK = [line for line in PRINTED if " rpk " in line]


def after_rpk(line: str) -> list[str]:
    """Return the words after rpk, in whatever comes before it on the line."""
    words = shlex.split(line.rpartition("| ")[2])
    return words[words.index("rpk") + 1 :]


def test_every_remedy_can_be_printed():
    assert [r.title for r in BOOK.remedies if remedies.fill(r.command, names()) is None] == []
    assert len(PRINTED_KUBECTL) >= 10
    assert len(PRINTED_RPK) >= 10
    others = [line for line in PRINTED if line not in (*PRINTED_KUBECTL, *PRINTED_RPK)]
    assert all(line.startswith("lagkit ") for line in others), others


@pytest.mark.parametrize("line", PRINTED_RPK)
def test_rpk_takes_every_printed_command(line):
    assert faults_of_rpk(after_rpk(line)) == []


@pytest.mark.parametrize("line", WRONG)
def test_the_table_of_rpk_refuses_what_rpk_refuses(line):
    assert faults_of_rpk(shlex.split(line)[1:])


NOT_ITS_FAULT = re.compile("connection refused|was refused|unable to connect", re.IGNORECASE)


Kubectl = Callable[[list[str]], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def kubectl() -> Kubectl:
    found = install(["kubectl"])["kubectl"]
    require({"kubectl": found}, "kubectl")
    assert isinstance(found, Artifact)
    program = str(found.files["kubectl"])

    def run(words: list[str]) -> subprocess.CompletedProcess[str]:
        # a port at which nothing listens: it must get as far as asking for the server
        away = ["--server=http://127.0.0.1:9", "--kubeconfig=/dev/null", "--request-timeout=1s"]
        assert words[0] == "kubectl"
        separator = words.index("--") if "--" in words else len(words)
        return subprocess.run(
            [program, *words[1:separator], *away, *words[separator:]],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.mark.parametrize(
    "line",
    [*PRINTED_KUBECTL, next(line for line in PRINTED_RPK if line.startswith("kubectl exec"))],
)
def test_kubectl_itself_parses_every_printed_command(kubectl, line):
    done = kubectl(shlex.split(line))
    assert NOT_ITS_FAULT.search(done.stderr), done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "kubectl scale -n x deployment/w --replica=3",
        "kubectl scale -n x deployment/w",
        "kubectl logs -n x -l app=w --all-container",
        "kubectl rollout undo -n x",
        "kubectl frobnicate pods",
    ],
)
def test_kubectl_would_say_so_if_a_command_were_wrong(kubectl, line):
    done = kubectl(shlex.split(line))
    assert done.returncode != 0
    assert not NOT_ITS_FAULT.search(done.stderr)


def test_a_hostile_name_is_one_word_in_every_step_of_a_skip():
    evil = "x'; touch pwned; '"
    found = skip(
        Standing(evil, evil, 2, 7, 0, 9, "Empty", 0), shown(7), BOOK, bootstrap="127.0.0.1:1"
    )
    for step in found.steps:
        assert shlex.quote(evil) in step.command or "x" not in step.command.split("touch")[0]
        assert "touch" not in [word for word in shlex.split(step.command) if word == "touch"]
    assert found.conditions[0].status == "met"
    assert "One record of 5 bytes" in found.lost
    assert STANDING.committed == 1284
