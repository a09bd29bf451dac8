"""Settings: where the systems are and how to log in.

From options, ``LAGKIT_*`` and ``lagkit.toml``, in that order of precedence. A source without an
address is *not configured*; no default host is ever tried. Secrets are ``SecretStr``
and never enter an incident file or a notebook parameter.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from lagkit.errors import UsageError


class HttpLogin(BaseModel):
    """How to log in to an HTTP source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bearer_token: SecretStr | None = None
    bearer_token_file: Path | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    verify: bool = True
    headers: dict[str, SecretStr] = Field(default_factory=dict)


class Budgets(BaseModel):
    """Seconds each source may take; a slow one costs its budget once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prometheus: float = Field(20.0, gt=0)
    kafka: float = Field(20.0, gt=0)
    kubernetes: float = Field(20.0, gt=0)
    downstream: float = Field(10.0, gt=0)


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
    bootstrap: str | None = None
    """HOST:PORT[,HOST:PORT…] of Kafka or Redpanda."""
    kafka_properties: dict[str, SecretStr] = Field(default_factory=dict)
    """Further librdkafka properties (security.protocol, sasl.*, ssl.*)."""
    kubeconfig: Path | None = None
    in_cluster: bool = False
    """Use the pod's own service account instead of a kubeconfig."""
    context: str | None = None
    namespace: str | None = None
    selector: str | None = None
    downstream: dict[str, str] = Field(default_factory=dict)
    """Name in the runbook → base URL, e.g. ``awx = "https://awx.example"``."""
    downstream_login: dict[str, HttpLogin] = Field(default_factory=dict)
    cluster: str = ""
    """Name of the Kafka cluster in reports; empty: the cluster id."""
    runbook: Path | None = None
    budgets: Budgets = Budgets()
    redact_addresses: bool = False
    """Replace IP addresses by stable pseudonyms."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Defaults for the command line's other options (since, out, …); read by ``lagkit.cli``."""

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
