"""Properties of other clients as librdkafka's. What a broker says to them is in tests/real."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from lagkit.errors import UsageError
from lagkit.sources.kafka import KafkaSource
from lagkit.sources.kafka.access import advice, grant
from lagkit.sources.kafka.login import is_secret, resolve, secret_values, token_callback

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
OAUTH = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
PEM = "-----BEGIN CERTIFICATE-----\n"


def read(tmp_path: Path, text: str, name: str = "client.properties") -> dict[str, str]:
    """Return the properties in a file of *text*, the broker apart."""
    (tmp_path / name).write_text(text)
    return dict(resolve("broker:9092", {}, tmp_path / name).properties)


def refusal(tmp_path: Path, text: str, name: str = "client.properties") -> str:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, text, name)
    return str(refused.value)


# -- files ----------------------------------------------------------------------------------------


def test_the_broker_can_come_from_the_file_and_an_option_goes_before_it(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("metadata.broker.list=a:9092,b:9092\n")
    assert resolve(None, {}, file).bootstrap == "a:9092,b:9092"
    assert resolve("c:9092", {}, file).bootstrap == "c:9092"


def test_a_property_of_the_configuration_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("sasl.username=from-file\nsecurity.protocol=SASL_SSL\n")
    login = resolve("c:9092", {"sasl.username": "from-toml"}, file)
    assert login.properties["sasl.username"] == "from-toml"
    assert login.properties["security.protocol"] == "SASL_SSL"


def test_what_is_not_about_the_connection_is_left_out_and_named(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("group.id=worker\nenable.auto.commit=true\nsecurity.protocol=SSL\n")
    login = resolve("c:9092", {}, file)
    assert login.properties == {"security.protocol": "SSL"}
    assert login.ignored == ("enable.auto.commit", "group.id")


def test_comments_blank_lines_and_spaces_are_nothing(tmp_path: Path) -> None:
    text = "# sasl.username=no\n! also no\n\n  sasl.username =  me \n"
    assert read(tmp_path, text) == {"sasl.username": "me"}


def test_a_password_with_signs_in_it_stays_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path, "sasl.password=a=b\\c#d:e") == {"sasl.password": "a=b\\c#d:e"}


def test_a_password_that_ends_with_a_backslash_is_whole(tmp_path: Path) -> None:
    found = read(tmp_path, "sasl.password=abc\\\nsasl.username=u\n")
    assert found == {"sasl.password": "abc\\", "sasl.username": "u"}


def test_escapes_count_in_a_file_that_is_plainly_javas(tmp_path: Path) -> None:
    text = f'sasl.jaas.config={SCRAM} required username="u" password="a\\\\\\\\b\\u0063";\n'
    assert read(tmp_path, text)["sasl.password"] == "a\\bc"


@pytest.mark.parametrize("text", ["hunter2", "a=b\nhunter2\n", "=hunter2"])
def test_a_line_that_is_no_pair_is_told_by_its_number_alone(tmp_path: Path, text: str) -> None:
    told = refusal(tmp_path, text)
    assert "line" in told
    assert "hunter2" not in told


def test_a_file_far_too_large_is_not_read(tmp_path: Path) -> None:
    assert "bytes" in refusal(tmp_path, "a=" + "x" * 1_000_001)


# -- Java -----------------------------------------------------------------------------------------


def test_jaas_of_scram_becomes_user_and_password(tmp_path: Path) -> None:
    text = f"sasl.jaas.config={SCRAM} required username='u x' password=\"p;\";"
    assert read(tmp_path, text) == {"sasl.username": "u x", "sasl.password": "p;"}


def test_jaas_of_oauth_becomes_client_credentials(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        f'sasl.jaas.config={OAUTH} required clientId="c" clientSecret="s" scope="kafka";\n'
        "sasl.mechanism=OAUTHBEARER\n"
        "sasl.oauthbearer.token.endpoint.url=https://idp.example/token\n"
        "sasl.login.callback.handler.class=org.example.Handler\n",
    )
    assert found["sasl.oauthbearer.method"] == "oidc"
    assert found["sasl.oauthbearer.client.id"] == "c"
    assert found["sasl.oauthbearer.client.secret"] == "s"
    assert found["sasl.oauthbearer.scope"] == "kafka"
    assert "sasl.login.callback.handler.class" not in found


def test_jaas_that_only_java_can_do_is_refused_without_its_options(tmp_path: Path) -> None:
    module = "com.sun.security.auth.module.Krb5LoginModule"
    told = refusal(tmp_path, f'sasl.jaas.config={module} required keyTab="/hunter2";')
    assert "Krb5LoginModule" in told
    assert "hunter2" not in told


def test_jaas_that_begins_with_a_password_does_not_show_it(tmp_path: Path) -> None:
    assert "hunter2" not in refusal(tmp_path, 'sasl.jaas.config=password="hunter2";')


def test_what_is_written_for_lagkit_itself_is_passed_on_whole() -> None:
    assert resolve("c:9092", {"debug": "broker"}, None).properties == {"debug": "broker"}


def test_a_truststore_in_pem_becomes_the_ca(tmp_path: Path) -> None:
    store = tmp_path / "trust.pem"
    store.write_text(PEM)
    found = read(tmp_path, f"ssl.truststore.location={store}\nssl.truststore.password=x\n")
    assert found == {"ssl.ca.location": str(store)}


@pytest.mark.parametrize("head", [b"\xfe\xed\xfe\xed\x00\x00", b"\x30\x82\x04\xfc"])
def test_a_truststore_of_java_is_refused_with_the_way_to_pem(tmp_path: Path, head: bytes) -> None:
    store = tmp_path / "trust.jks"
    store.write_bytes(head)
    told = refusal(tmp_path, f"ssl.truststore.location={store}\nssl.truststore.password=hunter2\n")
    assert "keytool -exportcert -rfc" in told
    assert "hunter2" not in told


def test_a_keystore_in_pkcs12_is_librdkafkas_own(tmp_path: Path) -> None:
    store = tmp_path / "client.p12"
    store.write_bytes(b"\x30\x82\x04\xfc")
    text = f"ssl.keystore.location={store}\nssl.keystore.password=p\nssl.keystore.type=PKCS12\n"
    found = read(tmp_path, text)
    assert found == {"ssl.keystore.location": str(store), "ssl.keystore.password": "p"}


def test_a_keystore_of_java_is_refused_with_the_way_to_pkcs12(tmp_path: Path) -> None:
    store = tmp_path / "client.jks"
    store.write_bytes(b"\xfe\xed\xfe\xed\x00\x00")
    assert "PKCS12" in refusal(tmp_path, f"ssl.keystore.location={store}\n")


def test_certificates_given_in_place_keep_their_lines(tmp_path: Path) -> None:
    text = "ssl.truststore.type=PEM\nssl.truststore.certificates=-----BEGIN X-----\\nabc\\n\n"
    assert read(tmp_path, text)["ssl.ca.pem"].splitlines() == ["-----BEGIN X-----", "abc"]


def test_no_host_name_check_is_said_in_librdkafkas_way(tmp_path: Path) -> None:
    found = read(tmp_path, "ssl.endpoint.identification.algorithm=\n")
    assert found == {"ssl.endpoint.identification.algorithm": "none"}


@pytest.mark.parametrize("mechanism", ["GSSAPI", "AWS_MSK_IAM"])
def test_a_mechanism_that_cannot_be_had_is_refused(tmp_path: Path, mechanism: str) -> None:
    assert mechanism in refusal(tmp_path, f"sasl.mechanism={mechanism}\n")


# -- rpk ------------------------------------------------------------------------------------------


def profile(**api: object) -> str:
    return json.dumps({"name": "prod", "kafka_api": {"brokers": ["a:9092", "b:9092"], **api}})


def test_a_profile_of_rpk_logs_in_with_scram_over_tls(tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    sasl = {"user": "u", "password": "p", "mechanism": "SCRAM-SHA-512"}
    file.write_text(profile(sasl=sasl, tls={"ca_file": "ca.pem"}))
    login = resolve(None, {}, file)
    assert login.bootstrap == "a:9092,b:9092"
    assert login.properties == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "p",
        "ssl.ca.location": "ca.pem",
    }


@pytest.mark.parametrize(
    ("tls", "protocol"), [({}, "SSL"), (None, "PLAINTEXT")], ids=["empty", "null"]
)
def test_tls_that_is_there_means_tls_even_when_empty(
    tmp_path: Path, tls: object, protocol: str
) -> None:
    assert read(tmp_path, profile(tls=tls), "p.yaml")["security.protocol"] == protocol


def test_the_current_profile_counts_among_several(tmp_path: Path) -> None:
    profiles = [
        {"name": name, "kafka_api": {"sasl": {"user": name, "password": "p"}}}
        for name in ("dev", "prod")
    ]
    text = json.dumps({"current_profile": "prod", "profiles": profiles})
    assert read(tmp_path, text, "rpk.yaml")["sasl.username"] == "prod"


def test_redpanda_yaml_of_a_node_is_understood(tmp_path: Path) -> None:
    api = {"brokers": ["a:9092"], "tls": {"truststore_file": "ca.pem"}}
    text = json.dumps({"redpanda": {}, "rpk": {"kafka_api": api}})
    assert read(tmp_path, text, "redpanda.yaml")["ssl.ca.location"] == "ca.pem"


@pytest.mark.parametrize("text", ["{", "[]", "a: 1", "profiles: [1]", ""])
def test_a_yaml_without_a_login_is_told(tmp_path: Path, text: str) -> None:
    assert "rpk.yaml" in refusal(tmp_path, text, "rpk.yaml")


# -- secrets and tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    ["sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem",
     "sasl.oauthbearer.client.secret", "sasl.oauthbearer.client.credentials.client.secret",
     "sasl.oauthbearer.token", "sasl.jaas.config", "sasl.oauthbearer.assertion.private.key.pem"],
)  # fmt: skip
def test_what_is_a_secret(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["sasl.username", "sasl.mechanism", "ssl.ca.location", "security.protocol",
     "sasl.oauthbearer.token.endpoint.url", "sasl.oauthbearer.method",
     "sasl.oauthbearer.token.file"],
)  # fmt: skip
def test_what_may_be_shown(key: str) -> None:
    assert not is_secret(key)


def test_a_password_inside_an_address_is_a_secret_too() -> None:
    address = "https://me:hunter2@idp.example/token"
    assert secret_values({"sasl.oauthbearer.token.endpoint.url": address}) == ("hunter2",)


def test_a_token_file_that_is_not_there_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    told = refusal(tmp_path, f"sasl.oauthbearer.token.file={tmp_path / 'nothing'}\n")
    assert "no such file" in told


def token(**claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.sig"


def test_a_token_is_good_until_it_says_so() -> None:
    callback = token_callback({"sasl.oauthbearer.token": token(exp=1_900_000_000)})
    assert callback is not None
    assert callback("")[1] == 1_900_000_000


def test_an_opaque_token_is_believed_for_a_while() -> None:
    callback = token_callback({"sasl.oauthbearer.token": "opaque"})
    assert callback is not None
    assert callback("")[1] > time.time()


def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    callback = token_callback({"sasl.oauthbearer.token.file": str(file)})
    assert callback is not None
    assert callback("")[0] == "first"
    file.write_text("second\n")
    assert callback("")[0] == "second"


def test_librdkafka_never_sees_lagkits_own_names() -> None:
    source = KafkaSource("b:9092", {"sasl.oauthbearer.token": "opaque"})
    assert "sasl.oauthbearer.token" not in source.configuration()
    assert callable(source.configuration()["oauth_cb"])


# -- rights and advice ----------------------------------------------------------------------------

HOST = {"bootstrap.servers": "b:9092"}


def test_a_grant_names_the_user_and_the_broker() -> None:
    login = {**HOST, "security.protocol": "SASL_SSL", "sasl.username": "reader"}
    line = grant(login, "id", "Describe", "topic", "orders")
    assert line.endswith(
        "kafka-acls --bootstrap-server b:9092 --command-config ADMIN.properties --add "
        "--allow-principal User:reader --operation Describe --topic orders"
    )


def test_on_redpanda_a_grant_is_rpks() -> None:
    login = {**HOST, "security.protocol": "SASL_SSL", "sasl.username": "reader"}
    line = grant(login, "redpanda.abc", "DescribeConfigs", "cluster", "kafka-cluster")
    assert line.endswith(
        "rpk security acl create --allow-principal User:reader --operation describe_configs "
        "--cluster"
    )


def test_a_hostile_topic_name_is_quoted_in_a_grant() -> None:
    assert "--topic 'x; rm -rf y'" in grant(HOST, "", "Describe", "topic", "x; rm -rf y")


def test_the_name_in_a_certificate_is_left_to_openssl() -> None:
    login = {**HOST, "security.protocol": "SSL", "ssl.certificate.location": "my cert.pem"}
    assert "openssl x509 -noout -subject -nameopt RFC2253 -in 'my cert.pem'" in grant(
        login, "", "Describe", "group", "g"
    )


def test_words_that_are_not_known_get_no_advice() -> None:
    assert advice(["something else"]) == ""
