"""Who lagkit is to the brokers, the line that grants what is missing, and why nobody answers.

Knows what librdkafka says when a connection fails and what each of those sentences comes from;
opens no connection. The lines are for a person to read and run: lagkit grants nothing itself.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from lagkit.sources import Outcome

REDPANDA_CLUSTER = "redpanda."
"""How the cluster ids that Redpanda makes begin."""
_PRINCIPAL = re.compile(r"principal=(\S+)")


def principal(properties: Mapping[str, Any]) -> tuple[str, str]:
    """Return the principal of an ACL for this login, and a word on what to put for NAME."""
    protocol = str(properties.get("security.protocol", "PLAINTEXT")).upper()
    if protocol.startswith("SASL"):
        if user := properties.get("sasl.username"):
            return f"User:{user}", ""
        if told := _PRINCIPAL.search(str(properties.get("sasl.oauthbearer.config", ""))):
            return f"User:{told[1]}", ""
        return "User:NAME", "NAME is the token's subject"
    if protocol == "SSL":
        if "ssl.certificate.location" not in properties:
            return "User:ANONYMOUS", ""
        file = shlex.quote(str(properties["ssl.certificate.location"]))
        return "User:NAME", (
            f"NAME is what openssl x509 -noout -subject -nameopt RFC2253 -in {file} prints"
        )
    return "User:ANONYMOUS", ""


def grant(
    properties: Mapping[str, Any], cluster_id: str, operation: str, kind: str, name: str
) -> str:
    """Return the line that grants *operation* (Describe, …) on a topic, group or cluster."""
    who, note = principal(properties)
    target = "--cluster" if kind == "cluster" else f"--{kind} {shlex.quote(name)}"
    if cluster_id.startswith(REDPANDA_CLUSTER):
        verb = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower()
        line = (
            f"rpk security acl create --allow-principal {shlex.quote(who)} --operation {verb} "
            f"{target}"
        )
    else:
        login = "--command-config ADMIN.properties " if "security.protocol" in properties else ""
        line = (
            f"kafka-acls --bootstrap-server {shlex.quote(str(properties['bootstrap.servers']))} "
            f"{login}--add --allow-principal {shlex.quote(who)} --operation {operation} {target}"
        )
    return f"Grant this user {operation} on {kind} {name}: {line}" + (f" ({note})" if note else "")


# librdkafka 2.x's words → what to do. The first that fits counts: the exact ones come first.
_ADVICE: tuple[tuple[str, str], ...] = (
    (r"Failed to resolve", ("No name server here knows that host: mend the bootstrap address, or "
     "run lagkit where the brokers' names are known (a pod, the VPN).")),
    (r"Failed to acquire SASL OAUTHBEARER token|OIDC token", ("The token endpoint gave no token: "
     "look at sasl.oauthbearer.token.endpoint.url, client.id and client.secret.")),
    (r"[Uu]nsupported SASL mechanism|No provider for SASL mechanism", ("The broker or this client "
     "does not offer that sasl.mechanism; PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER "
     "are the usual ones.")),
    (r"SASL authentication error|Authentication failed", ("The broker refused the login: look at "
     "sasl.mechanism, sasl.username and sasl.password (a SCRAM user exists per mechanism).")),
    (r"certificate verify failed", ("The broker's certificate is not signed by a CA trusted here: "
     "set ssl.ca.location to the CA's PEM file (and use the host name the certificate is for).")),
    ((r"alert (bad certificate|certificate required|unknown ca|handshake failure)"
     r"|peer did not return a certificate"), ("The broker wants a client certificate that it "
     "trusts: set ssl.certificate.location and ssl.key.location.")),
    (r"PLAINTEXT broker listener|wrong version number|SSL connection closed by peer",
     ("That listener speaks no TLS: use security.protocol PLAINTEXT or SASL_PLAINTEXT, or the "
     "port of the TLS listener.")),
    (r"Invalid response size 1213486160", ("An HTTP server answers there, not a Kafka broker: "
     "use the broker's port (9092 by custom, not the one of its admin or metrics API).")),
    ((r"SSL listener|Disconnected.*APIVERSION|Disconnected while requesting ApiVersion"
     r"|connection closed by peer: receive 0"), ("Something closes the connection before it "
     "speaks Kafka, as a TLS listener does: try security.protocol SSL or SASL_SSL.")),
    (r"Connection refused", ("Nothing listens there: look at host and port, and whether the "
     "broker runs.")),
)  # fmt: skip

FINAL: Mapping[str, Outcome] = {"_AUTHENTICATION": "denied", "_SSL": "denied", "_BAD_MSG": "failed"}
"""Errors of a connection that waiting does not mend, and what they come to."""


def advice(said: Iterable[str]) -> str:
    """Return what to do about what the client *said*; "" when it said nothing known."""
    text = "\n".join(said)
    return next((fix for pattern, fix in _ADVICE if re.search(pattern, text)), "")
