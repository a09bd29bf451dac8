"""Settings: where the systems are and how to log in.

From options, ``LAGKIT_*`` and ``lagkit.toml``, in that order of precedence. A source without an
address is *not configured*; no default host is ever tried. Secrets are ``SecretStr``
and never enter an incident file or a notebook parameter.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from lagkit.errors import UsageError

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token of RFC 9110, section 5.6.2."""


class HttpLogin(BaseModel):
    """How to log in to an HTTP source: a bearer token, or a user and password, or neither.

    A client certificate and headers go with any of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bearer_token: SecretStr | None = None
    bearer_token_file: Path | None = None
    """Read again when the server answers 401, as mounted tokens rotate."""
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    """PEM of the CA that signed the server's certificate."""
    client_certificate: Path | None = None
    """PEM; may hold the key too."""
    client_key: Path | None = None
    verify: bool = True
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent with every question, e.g. ``X-Scope-OrgID``; the values are held as secrets."""

    @field_validator("bearer_token")
    @classmethod
    def _one_line(cls, token: SecretStr | None) -> SecretStr | None:
        """Drop the line end that a token read from a file into a variable has."""
        if token is None:
            return None
        text = token.get_secret_value().strip()
        if not (text.isascii() and text.isprintable()):
            msg = "has characters that no HTTP header can hold"
            raise ValueError(msg)
        return SecretStr(text)

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not HEADER_NAME.fullmatch(name):
                msg = "has a name that is no HTTP header's"
                raise ValueError(msg)
            if not value.get_secret_value().isprintable():
                msg = f"{name} has a line end or another control character"
                raise ValueError(msg)
        return headers

    @model_validator(mode="after")
    def _one_way(self) -> HttpLogin:
        if self.bearer_token is not None and self.bearer_token_file is not None:
            msg = "bearer_token and bearer_token_file are both given; one of them is the token"
            raise ValueError(msg)
        bearer = self.bearer_token is not None or self.bearer_token_file is not None
        if bearer and self.username is not None:
            msg = "a bearer token and a username are both given; a request can hold one of them"
            raise ValueError(msg)
        if self.password is not None and self.username is None:
            msg = "a password without a username"
            raise ValueError(msg)
        if self.client_key is not None and self.client_certificate is None:
            msg = "a client_key without a client_certificate"
            raise ValueError(msg)
        return self


class Budgets(BaseModel):
    """Seconds each source may take; a slow one costs its budget once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prometheus: float = Field(20.0, gt=0)
    kafka: float = Field(20.0, gt=0)
    kubernetes: float = Field(20.0, gt=0)
    downstream: float = Field(10.0, gt=0)


MetricName = Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=200)]
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=100)]


class OwnDialect(BaseModel):
    """A ``[[dialects]]`` table: the metric names of an exporter that lagkit does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    """Short name, for reports."""
    title: str = Field("", max_length=100)
    lag: MetricName | None = None
    committed: MetricName | None = None
    log_end: MetricName | None = None
    log_start: MetricName | None = None
    lag_seconds: MetricName | None = None
    members: MetricName | None = None
    group: LabelName = "group"
    """Label that names the consumer group."""
    topic: LabelName = "topic"
    partition: LabelName = "partition"
    where: dict[LabelName, str] = Field(default_factory=dict)
    """Labels and values that every series must have."""
    factor: dict[MetricName, float] = Field(default_factory=dict)
    """Metric → what its values are multiplied by to be messages, offsets or seconds."""
    zero_lag_without_commit: bool = False
    """It writes a lag of 0 for partitions that the group never committed to."""

    @model_validator(mode="after")
    def _tells_a_lag(self) -> OwnDialect:
        if not self.lag and not (self.committed and self.log_end):
            msg = "name the metric of the lag, or those of both committed and log_end"
            raise ValueError(msg)
        if self.lag and not (self.committed or self.log_end):
            msg = "a lag alone tells no rate: name committed or log_end as well"
            raise ValueError(msg)
        if len({self.group, self.topic, self.partition}) < 3:
            msg = "group, topic and partition must be three labels"
            raise ValueError(msg)
        named = {
            self.lag,
            self.committed,
            self.log_end,
            self.log_start,
            self.lag_seconds,
            self.members,
        }
        if strangers := sorted(set(self.factor) - named):
            msg = f"factor names {', '.join(strangers)}, which this table reads nowhere"
            raise ValueError(msg)
        return self


class Probe(BaseModel):
    """A ``[[probes]]`` table: one value out of a JSON answer, and what it is when all is well."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    """Its login, if it needs one, is ``downstream_login`` under this name."""
    url: str = Field(pattern=r"^https?://")
    expression: str = Field(min_length=1, max_length=500)
    """JMESPath, e.g. ``queue.depth`` or ``length(workers[?up])``."""
    healthy: str = Field("", max_length=100)
    """``< 100``, ``>= 0.5``, ``== ok``; empty: anything but false, 0 and nothing at all."""
    unit: str = Field("", max_length=40)
    groups: tuple[str, ...] = ()
    """Consumer groups that wait for it; empty: every group."""

    @field_validator("expression")
    @classmethod
    def _is_jmespath(cls, expression: str) -> str:
        import jmespath
        from jmespath.exceptions import JMESPathError

        try:
            jmespath.compile(expression)
        except JMESPathError as error:
            msg = f"not a JMESPath expression: {str(error).splitlines()[0]}"
            raise ValueError(msg) from None
        return expression

    @field_validator("healthy")
    @classmethod
    def _is_comparison(cls, healthy: str) -> str:
        from lagkit.comparison import Comparison

        Comparison.parse(healthy)
        return healthy


class Latency(BaseModel):
    """A ``[[latencies]]`` table: how long calls take, as one series of seconds in Prometheus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    query: str = Field(min_length=1, max_length=5000)
    """PromQL, e.g. ``histogram_quantile(0.95, sum by (le) (rate(awx_seconds_bucket[5m])))``."""
    groups: tuple[str, ...] = ()
    """Consumer groups that make these calls; empty: every group."""


class Settings(BaseSettings):
    """Everything that can come from an option, ``LAGKIT_*`` or ``lagkit.toml``."""

    model_config = SettingsConfigDict(
        env_prefix="LAGKIT_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    prometheus: str | None = None
    """Base URL, with any path prefix (Thanos, Mimir, VictoriaMetrics)."""
    prometheus_login: HttpLogin = HttpLogin()
    dialects: tuple[OwnDialect, ...] = ()
    """Own mappings of metric names, tried before those that lagkit knows."""
    bootstrap: str | None = None
    """HOST:PORT[,HOST:PORT…] of Kafka or Redpanda."""
    kafka_properties: dict[str, SecretStr] = Field(default_factory=dict)
    """Further librdkafka properties (security.protocol, sasl.*, ssl.*)."""
    kafka_properties_file: Path | None = None
    """The same from a file: client.properties of librdkafka or Java, or a profile of rpk."""
    read_offsets_topic: bool = False
    """Read the group's own log in ``__consumer_offsets``: exact commits and rebalances. Needs READ
    on that topic; without it nothing is read there."""
    kubeconfig: Path | None = None
    in_cluster: bool = False
    """Use the pod's own service account instead of a kubeconfig."""
    context: str | None = None
    namespace: str | None = None
    selector: str | None = None
    downstream: dict[str, str] = Field(default_factory=dict)
    """Name in the runbook → base URL, e.g. ``awx = "https://awx.example"``."""
    downstream_login: dict[str, HttpLogin] = Field(default_factory=dict)
    schema_registry: str | None = None
    """Base URL of a schema registry that speaks Confluent's API; `lagkit peek` decodes by it."""
    schema_registry_login: HttpLogin = HttpLogin()
    probes: tuple[Probe, ...] = ()
    """Questions of one's own about what a group waits for."""
    latencies: tuple[Latency, ...] = ()
    """How long calls take, from the Prometheus above."""
    cluster: str = ""
    """Name of the Kafka cluster in reports; empty: the cluster id."""
    runbook: Path | None = None
    budgets: Budgets = Budgets()
    redact_addresses: bool = False
    """Replace IP addresses by stable pseudonyms."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Defaults for the command line's other options (since, out, …); read by ``lagkit.cli``."""

    @field_validator("dialects")
    @classmethod
    def _one_of_each(cls, dialects: tuple[OwnDialect, ...]) -> tuple[OwnDialect, ...]:
        ids = [dialect.id for dialect in dialects]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            msg = f"two tables have the id {', '.join(twice)}"
            raise ValueError(msg)
        return dialects

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options first, then the environment, then ``lagkit.toml``."""
        del dotenv_settings, file_secret_settings
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, toml_file=configuration_file()),
        )


def configuration_file() -> Path:
    """Return where the configuration file is looked for."""
    import os

    return Path(os.environ.get("LAGKIT_CONFIG", "lagkit.toml"))


def load_settings(**options: Any) -> Settings:
    """Return the settings in force; *options* that are None do not count.

    Raises
    ------
    UsageError
        A value or ``lagkit.toml`` itself cannot be used; the text names the key, not a secret.
    """
    import os

    file = configuration_file()
    if "LAGKIT_CONFIG" in os.environ and not file.is_file():
        msg = f"LAGKIT_CONFIG names {file}, and there is no such file."
        raise UsageError(msg, hint="Mend the path, or unset LAGKIT_CONFIG.")
    given = {key: value for key, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = "\n".join(
            f"  {'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        msg = f"The configuration cannot be used:\n{faults}"
        raise UsageError(
            msg, hint=f"Look at the options, LAGKIT_* variables and {configuration_file()}."
        ) from None
    except SettingsError as error:
        # it names the variable; the value, perhaps a secret, is only in its cause
        msg = f"The configuration cannot be used: {error}"
        raise UsageError(
            msg, hint="Write lists and tables in LAGKIT_* variables as JSON."
        ) from None
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        msg = f"{configuration_file()} cannot be read: {error}"
        raise UsageError(msg) from None
