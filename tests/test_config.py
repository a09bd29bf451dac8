"""Settings: precedence, nothing by default, and no secret in an error."""

from __future__ import annotations

import pytest

from lagkit.config import load_settings
from lagkit.errors import UsageError


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    """Start in an empty folder without any LAGKIT_* variable."""
    import os

    for name in list(os.environ):
        if name.startswith("LAGKIT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_is_configured_by_default():
    settings = load_settings()
    assert (settings.prometheus, settings.bootstrap, settings.kubeconfig, settings.context) == (
        None,
        None,
        None,
        None,
    )
    assert settings.downstream == {}
    assert settings.in_cluster is False


def test_an_option_beats_the_environment_and_that_beats_the_file(bare, monkeypatch):
    (bare / "lagkit.toml").write_text(
        'prometheus = "http://file"\nbootstrap = "file:1"\ncluster = "file"\n'
    )
    monkeypatch.setenv("LAGKIT_PROMETHEUS", "http://environment")
    monkeypatch.setenv("LAGKIT_BOOTSTRAP", "environment:1")
    settings = load_settings(prometheus="http://option")
    assert (settings.prometheus, settings.bootstrap, settings.cluster) == (
        "http://option",
        "environment:1",
        "file",
    )


def test_an_option_that_was_not_given_does_not_hide_the_file(bare):
    (bare / "lagkit.toml").write_text('prometheus = "http://file"\n')
    assert load_settings(prometheus=None).prometheus == "http://file"


def test_nested_settings_come_from_tables_and_from_the_environment(bare, monkeypatch):
    (bare / "lagkit.toml").write_text(
        '[budgets]\nkafka = 7\n[downstream]\nawx = "https://awx.example"\n'
        '[prometheus_login]\nbearer_token = "s3cr3t"\n'
    )
    monkeypatch.setenv("LAGKIT_BUDGETS__PROMETHEUS", "3")
    settings = load_settings()
    assert (settings.budgets.kafka, settings.budgets.prometheus) == (7.0, 3.0)
    assert settings.downstream == {"awx": "https://awx.example"}
    assert settings.prometheus_login.bearer_token.get_secret_value() == "s3cr3t"


def test_another_file_can_be_named(bare, monkeypatch):
    (bare / "other.toml").write_text('cluster = "other"\n')
    monkeypatch.setenv("LAGKIT_CONFIG", str(bare / "other.toml"))
    assert load_settings().cluster == "other"


def test_a_file_that_was_named_and_is_not_there_is_refused(bare, monkeypatch):
    monkeypatch.setenv("LAGKIT_CONFIG", str(bare / "none.toml"))
    with pytest.raises(UsageError, match=r"none\.toml"):
        load_settings()


def test_no_file_at_all_is_fine():
    assert load_settings().cluster == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("promethoys = 'x'", "promethoys"),
        ("[budgets]\nkafka = 0", "budgets.kafka"),
        ("[budgets]\nkafak = 1", "budgets.kafak"),
        ("[prometheus_login]\ntoken = 'x'", "prometheus_login.token"),
        ("redact_addresses = 'perhaps'", "redact_addresses"),
        ("[prometheus_login]\nbearer_token = 'x'\nbearer_token_file = 'y'", "both given"),
        ("[prometheus_login]\nbearer_token = 'x'\nusername = 'y'", "both given"),
        ("[prometheus_login]\nbearer_token = 'x\u2028y'", "prometheus_login.bearer_token"),
        ("[prometheus_login]\npassword = 'x'", "without a username"),
        ("[prometheus_login]\nclient_key = 'x'", "without a client_certificate"),
        ("[prometheus_login.headers]\n'a b' = 'x'", "prometheus_login.headers"),
        ('[prometheus_login.headers]\na = "x\\ny"', "prometheus_login.headers"),
        ("cluster = ", "lagkit.toml"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_key(bare, text, words):
    (bare / "lagkit.toml").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        load_settings()
    assert caught.value.exit_status == 2


def test_a_file_that_is_not_text_is_refused(bare):
    (bare / "lagkit.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"lagkit\.toml"):
        load_settings()


@pytest.mark.parametrize("name", ["LAGKIT_DOWNSTREAM", "LAGKIT_KAFKA_PROPERTIES"])
def test_a_variable_that_is_no_json_is_refused_without_its_value(monkeypatch, name):
    monkeypatch.setenv(name, "sasl.password=hunter2")
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert "JSON" in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_error_never_shows_a_secret(bare):
    (bare / "lagkit.toml").write_text("[prometheus_login]\npassword = ['hunter2']\n")
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert "prometheus_login.password" in str(caught.value)


def test_the_line_end_of_a_token_is_no_part_of_it(monkeypatch):
    monkeypatch.setenv("LAGKIT_PROMETHEUS_LOGIN__BEARER_TOKEN", "abc\n")
    token = load_settings().prometheus_login.bearer_token
    assert token is not None and token.get_secret_value() == "abc"  # noqa: PT018


def test_secrets_do_not_show_in_the_settings_themselves():
    settings = load_settings(
        prometheus_login={
            "username": "ann",
            "password": "hunter2",
            "headers": {"X-Key": "hunter3"},
        },
        kafka_properties={"sasl.password": "hunter4"},
    )
    shown = repr(settings) + str(settings.model_dump()) + settings.model_dump_json()
    assert not any(secret in shown for secret in ("hunter2", "hunter3", "hunter4"))


OWN = "[[dialects]]\nid = 'acme'\nlag = 'acme_lag'\ncommitted = 'acme_offset'\n"


def test_own_metric_names_come_from_a_table(bare):
    (bare / "lagkit.toml").write_text(OWN + "group = 'cg'\nwhere = {env = 'prod'}\n")
    (dialect,) = load_settings().dialects
    assert (dialect.lag, dialect.group, dialect.topic) == ("acme_lag", "cg", "topic")
    assert dialect.where == {"env": "prod"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[dialects]]\nlag = 'x'\ncommitted = 'y'", r"dialects\.0\.id"),
        ("[[dialects]]\nid = 'acme'", "name the metric of the lag"),
        ("[[dialects]]\nid = 'acme'\nlag = 'x'", "a lag alone"),
        ("[[dialects]]\nid = 'acme'\ncommitted = 'x'", "name the metric of the lag"),
        (OWN + "lagg = 'x'", r"dialects\.0\.lagg"),
        (OWN + "log_end = 'a b'", r"dialects\.0\.log_end"),
        (OWN + "group = 'a-b'", r"dialects\.0\.group"),
        (OWN + "group = 'topic'", "three labels"),
        (OWN + "factor = {other = 2}", "factor names other"),
        (OWN + "factor = {acme_lag = 'two'}", r"dialects\.0\.factor"),
        (OWN + OWN, "two tables have the id acme"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused_with_the_key(bare, text, words):
    (bare / "lagkit.toml").write_text(text + "\n")
    with pytest.raises(UsageError, match=words):
        load_settings()


def test_settings_are_frozen():
    from pydantic import ValidationError

    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.cluster = "mine"
