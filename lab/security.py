"""Logins for the lab's brokers: certificates, SASL users and an authorizer that refuses.

Knows what a secured Kafka 4 listener needs and which users exist. Every name and password here is
the lab's own and worth nothing elsewhere. The plaintext listeners stay, for the lab itself: who
comes in there is ANONYMOUS, a super user.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from lab.processes import LabError, log_tail

FOLDER = "certificates"
OPENSSL_SECONDS = 30.0
ACL_SECONDS = 15.0
VALID_DAYS = "30"

READER = "lagkit-reader"
STRANGER = "stranger"
WORKER = "deployment-worker"
# Users who prove who they are; what each may do is up to the ACLs of a test.
PASSWORDS = {
    READER: "reader-secret-5e1f",
    STRANGER: "stranger-secret-77aa",
    WORKER: "worker-secret-0c93",
}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")

_LOGIN = "org.apache.kafka.common.security"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_certificates(folder: Path) -> None:
    """Write a CA, a broker's certificate for loopback, and one client's; PEM, without passwords.

    `ca.pem`, `other-ca.pem` (of nobody here), `broker.pem` (key and certificate),
    `client.pem` and `client.key` (CN = the reader).

    Raises:
        LabError: openssl is missing or refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ca", "other-ca"):
        _openssl(
            folder,
            "-x509", *_KEY, "-days", VALID_DAYS, "-subj", f"/CN=lagkit lab {name}",
            "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    names = {"broker": "/CN=localhost", "client": f"/CN={READER}"}
    for name, subject in names.items():
        _openssl(
            folder,
            "-x509", *_KEY, "-days", VALID_DAYS, "-subj", subject,
            "-CA", "ca.pem", "-CAkey", "ca.key",
            "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "-addext", "basicConstraints=CA:FALSE",
            "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    chain = folder / "broker.pem"
    chain.write_text((folder / "broker.key").read_text() + chain.read_text())


def _openssl(folder: Path, *arguments: str) -> None:
    log = folder / "openssl.log"
    try:
        with log.open("ab") as sink:
            code = subprocess.run(
                ["openssl", "req", *arguments],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                timeout=OPENSSL_SECONDS,
            ).returncode  # fmt: skip
    except FileNotFoundError as error:
        raise LabError("a secured kafka needs openssl on PATH: apt-get install openssl") from error
    if code != 0:
        raise LabError(f"openssl ended with {code}. Last lines:\n{log_tail(log)}")


def broker_settings(certificates: Path) -> dict[str, object]:
    """Return what server.properties needs besides the listeners SASL and MTLS themselves."""
    users = " ".join(f'user_{name}="{password}"' for name, password in PASSWORDS.items())
    login = {
        "plain": f"{_LOGIN}.plain.PlainLoginModule required {users};",
        "scram-sha-256": f"{_LOGIN}.scram.ScramLoginModule required;",
        "scram-sha-512": f"{_LOGIN}.scram.ScramLoginModule required;",
        # tokens without a signature: the broker checks name and time, which is all a lab needs
        "oauthbearer": f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker";',
    }
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.sasl.sasl.enabled.mechanisms": ",".join(MECHANISMS),
        **{
            f"listener.name.sasl.{mechanism}.sasl.jaas.config": text
            for mechanism, text in login.items()
        },
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": certificates / "broker.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": certificates / "ca.pem",
        "listener.name.mtls.ssl.client.auth": "required",
    }


def format_arguments() -> list[str]:
    """Return the arguments that make the SCRAM users when the storage is formatted."""
    return [
        argument
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for name, password in PASSWORDS.items()
        for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
    ]


def login(certificates: Path, user: str) -> dict[str, str]:
    """Return the environment with which a worker logs in as this user."""
    return {
        "KAFKA_USERNAME": user,
        "KAFKA_PASSWORD": PASSWORDS[user],
        "KAFKA_CA": str(certificates / "ca.pem"),
    }


def let_consume(bootstrap: str, user: str, topic: str, group: str) -> None:
    """Let a user read a topic as a member of a group.

    Raises:
        LabError: the broker refused.
    """
    admin = _admin(bootstrap)  # kept: a client that is collected forgets what it was asked
    for binding in (_may_read(user, "TOPIC", topic), _may_read(user, "GROUP", group)):
        _done(admin.create_acls([binding]))


def forbid(bootstrap: str, user: str, kind: str, name: str) -> None:
    """Take back what lets a user read a TOPIC, or be a member of a GROUP.

    Raises:
        LabError: the broker refused.
    """
    from confluent_kafka.admin import AclBindingFilter

    given = _may_read(user, kind, name)
    same = AclBindingFilter(
        given.restype,
        given.name,
        given.resource_pattern_type,
        given.principal,
        given.host,
        given.operation,
        given.permission_type,
    )
    admin = _admin(bootstrap)  # kept, as above
    _done(admin.delete_acls([same]))


def _may_read(user: str, kind: str, name: str) -> Any:
    from confluent_kafka.admin import (
        AclBinding,
        AclOperation,
        AclPermissionType,
        ResourcePatternType,
        ResourceType,
    )

    return AclBinding(
        ResourceType[kind],
        name,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )


def _admin(bootstrap: str) -> Any:
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def _done(answers: Any) -> None:
    from confluent_kafka import KafkaException

    for what, future in answers.items():
        try:
            future.result(ACL_SECONDS)
        except (KafkaException, TimeoutError) as error:
            raise LabError(f"the rights were not changed ({what}): {error}") from error
