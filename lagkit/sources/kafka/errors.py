"""What an error of the admin client means: refused, too late, not offered, still loading, crashed.

Knows librdkafka's names of errors; knows no question and no group.
"""

from __future__ import annotations

from lagkit.sources import Outcome

DENIED = frozenset(
    {
        "TOPIC_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
        "SASL_AUTHENTICATION_FAILED",
        "_AUTHENTICATION",
    }
)
LATE = frozenset({"_TIMED_OUT", "REQUEST_TIMED_OUT", "_TIMED_OUT_QUEUE"})
UNSUPPORTED = frozenset({"UNSUPPORTED_VERSION", "UNSUPPORTED_FEATURE"})
LOADING = frozenset({"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE"})


class LibraryCrashed(RuntimeError):
    """Kafka's client library, or the process that it was asked in, died; the text says how."""

    fix = "Run again in a few seconds, when the group's coordinator has settled."


def error_name(error: object) -> str:
    """Return librdkafka's name of an error or of the exception around it; "" for any other."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    name = getattr(inner, "name", None)
    return str(name()) if callable(name) else ""


def fault(error: Exception, seconds: float) -> tuple[Outcome, str]:
    """Return the outcome of a failed call and one line about it."""
    if isinstance(error, LibraryCrashed):
        return "failed", str(error)
    name = error_name(error)
    if name in DENIED:
        return "denied", describe_error(error)
    if name in LATE or isinstance(error, TimeoutError):
        return "timeout", f"no answer within {seconds:.1f} s"
    if name in UNSUPPORTED:
        return "failed", f"this broker does not offer the call ({name})"
    if name in LOADING:
        return "failed", f"the coordinator is still loading its groups ({name})"
    return "failed", describe_error(error)


def describe_error(error: object) -> str:
    """Return librdkafka's name of an error and its own words."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    name, text = error_name(error), getattr(inner, "str", None)
    if name and callable(text):
        return f"{name}: {text()}"
    return f"{type(error).__name__}: {error}"


def worth_a_retry(error: Exception) -> bool:
    """Return whether the same call may well succeed with a new connection."""
    return error_name(error) in LATE | {"_TRANSPORT", "_ALL_BROKERS_DOWN"} or isinstance(
        error, TimeoutError
    )
