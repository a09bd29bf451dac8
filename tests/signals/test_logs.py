"""The members' own words: which lines count, and which are someone else's."""

from __future__ import annotations

import incidents
import pandas as pd
import pytest

from lagkit import frames
from lagkit.signals import logs

SLOW = incidents.make("slow")
CALM = incidents.make("calm")
FAULT = incidents.FAULT
TOPIC = incidents.TOPIC


def words(incident) -> dict:
    return incidents.checks(logs.members_words, incident)


def repeated(text: str, times: int = 5, level: str = "ERROR", begin: float = FAULT + 20):
    return [(begin + 20 * n, n % 3, level, text) for n in range(times)]


def quiet(kind: str = "down"):
    """Return an incident of *kind* whose members log nothing but their progress."""
    made = incidents.make(kind)
    calm = made.logs["message"].str.contains("handled")
    return incidents.with_tables(made, logs=made.logs.loc[calm].reset_index(drop=True))


# -- transport


CLIENT_WORDS = (
    (
        "%3|1764.123|FAIL|worker#consumer-1| [thrd:kafka:9092/1]: kafka:9092/1: Connect to "
        "ipv4#10.0.0.1:9092 failed: Connection refused (after 1ms in state CONNECT)"
    ),
    "rdkafka REQTMOUT [thrd:GroupCoordinator]: GroupCoordinator/1: Timed out 1 in-flight",
    "kafka.errors: KafkaConnectionError: broker bootstrap disconnected",
    "[Consumer clientId=c1] Connection to node 1 (kafka/10.0.0.1:9092) could not be established.",
    "WARN NetworkClient: [Consumer] Bootstrap broker kafka:9092 (id: -1) disconnected",
    "cimpl.KafkaException: KafkaError{code=_TRANSPORT,val=-195}",
    "kafka client: _ALL_BROKERS_DOWN: 3/3 brokers are down",
    "kafka:9092/bootstrap: Failed to resolve 'kafka:9092': Name or service not known",
    "[Consumer] Group coordinator kafka:9092 (id: 1) is unavailable or invalid",
)


@pytest.mark.parametrize("text", CLIENT_WORDS)
def test_what_clients_say_of_lost_brokers_is_known(text):
    check = words(incidents.saying(quiet(), *repeated(text)))["transport_errors"]
    assert check.outcome == "present"
    assert check.findings[0].value == 5
    assert check.findings[0].quote == text[:300]


@pytest.mark.parametrize(
    "text",
    [
        "AWX launch failed: ConnectionRefusedError: Connection refused",
        "kafka-worker: AWX launch failed: connection refused",
        "GET https://awx.example/api/v2/ping/ timed out",
        "handled 120 in 60 s, kafka lag 0",
        "database connection reset by peer",
    ],
)
def test_what_is_said_of_others_is_no_transport_error(text):
    assert words(incidents.saying(quiet(), *repeated(text)))["transport_errors"].outcome == "absent"


def test_two_hiccups_are_no_transport_errors():
    made = incidents.saying(quiet(), *repeated(CLIENT_WORDS[0], 2))
    assert words(made)["transport_errors"].outcome == "absent"


def test_lines_that_came_as_often_before_the_onset_tell_nothing():
    every = [(second, 0, "ERROR", CLIENT_WORDS[0]) for second in range(10, incidents.SECONDS, 60)]
    check = words(incidents.saying(quiet(), *every))["transport_errors"]
    assert check.outcome == "absent"
    assert "no more since the onset than before" in check.reason


def test_lines_after_the_window_do_not_count():
    late = [(incidents.SECONDS + 3600 + n, 0, "ERROR", CLIENT_WORDS[0]) for n in range(9)]
    assert words(incidents.saying(quiet(), *late))["transport_errors"].outcome == "absent"


# -- poll and heartbeat


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "MAXPOLL [thrd:main]: Application maximum poll interval (60000ms) exceeded by 214ms",
            "poll_interval_exceeded",
        ),
        ("Heartbeat poll expired, leaving group", "poll_interval_exceeded"),
        ("consumer poll timeout has expired ... max.poll.interval.ms", "poll_interval_exceeded"),
        ("SESSTMOUT [thrd:main]: Consumer group session timed out", "heartbeat_lost"),
        ("Heartbeat session expired, marking coordinator dead", "heartbeat_lost"),
        ("Heartbeat failed: UNKNOWN_MEMBER_ID", "heartbeat_lost"),
        ("JoinGroup failed: Broker: Inconsistent group protocol", "protocol_refused"),
    ],
)
def test_one_line_about_a_lost_place_in_the_group_is_enough(text, kind):
    seen = words(incidents.saying(quiet(), (FAULT + 40, 0, "WARNING", text)))
    assert seen[kind].outcome == "present"


@pytest.mark.parametrize(
    "text",
    [
        "Heartbeat failed for group deployment-worker because it is rebalancing",
        "commit failed: CommitFailedError: [Error 25] UnknownMemberIdError",
        "commit failed: it is likely that the consumer was kicked out of the group",
    ],
)
def test_a_rebalance_that_a_member_hears_of_late_is_no_poll_interval(text):
    seen = words(incidents.saying(quiet(), (FAULT + 40, 0, "WARNING", text)))
    assert seen["poll_interval_exceeded"].outcome == "absent"


def test_a_heartbeat_refused_while_the_group_rebalances_is_not_lost():
    text = "Heartbeat failed for group deployment-worker because it is rebalancing"
    seen = words(incidents.saying(quiet(), (FAULT + 40, 0, "WARNING", text)))
    assert seen["heartbeat_lost"].outcome == "absent"


# -- connections that somebody ends


RESET = "kafka.conn Error sending FetchRequest: [Errno 104] ECONNRESET: Connection reset by peer"


def cut(text: str, **asked):
    """Return an incident whose members log *text*, and whose brokers answered lagkit so."""
    told = [(FAULT + 40 + number, number % 3, "ERROR", text) for number in range(12)]
    made = incidents.saying(quiet(), *told)
    rows = [
        {
            "query_id": f"kafka-{number:02d}",
            "source": "kafka",
            "statement": "describe_cluster()",
            "started_at": incidents.END,
            "seconds": asked.get("seconds", 0.01) + 0.001 * number,
            "rows": 1,
            "outcome": "ok",
        }
        for number in range(asked.get("requests", 6))
    ]
    fast = {**rows[0], "query_id": "kafka-99", "seconds": 0.01, "statement": "list_offsets()"}
    return incidents.with_tables(made, queries=frames.normalise("queries", [*rows, fast]))


@pytest.mark.parametrize(
    "text",
    [
        RESET,
        (
            "%3|1795478930.793|FAIL|worker#consumer-1| [thrd:b1:9092/1]: b1:9092/1: Connect to "
            "ipv4#10.0.0.7:9092 failed: Connection refused (after 0ms in state CONNECT)"
        ),
        (
            "FAIL|worker#consumer-1| [thrd:b1:9092/bootstrap]: Failed to resolve 'b1:9092': "
            "Temporary failure in name resolution (after 4ms in state CONNECT)"
        ),
        (
            "Couldn't resolve server kafka-1:9092 from bootstrap.servers as DNS resolution failed "
            "for kafka-1"
        ),
    ],
)
def test_connections_refused_or_reset_by_brokers_that_answer_lagkit_are_cut_on_the_way(text):
    (finding,) = words(cut(text))["connections_cut"].findings
    assert finding.value == 12
    assert finding.statement.endswith("while they answer lagkit in time")


def test_a_broker_that_lets_lagkit_wait_too_may_have_ended_the_connections_itself():
    check = words(cut(RESET, seconds=2.0))["connections_cut"]
    assert (check.outcome, check.source) == ("absent", "kafka")
    assert "the brokers answer late" in check.reason


def test_whether_brokers_are_there_that_were_not_asked_is_not_guessed():
    check = words(cut(RESET, requests=2))["connections_cut"]
    assert (check.outcome, check.source) == ("not_checked", "kafka")


def test_timeouts_alone_are_no_connections_that_somebody_ended():
    text = "REQTMOUT|worker#consumer-1| [thrd:GroupCoordinator]: Timed out FetchRequest in flight"
    seen = words(cut(text))
    assert seen["transport_errors"].outcome == "present"
    assert seen["connections_cut"].outcome == "absent"


# -- who writes nothing any more


def missing_one(*, silent: tuple[int, ...], missing: int = 2, every: int = 20, first: int = 10):
    """Return an incident without a member, where the pods *silent* stop writing at the fault."""
    told = [
        (second, pod, "INFO", "handled 100 deploy requests")
        for second in range(first, incidents.SECONDS, every)
        for pod in range(3)
        if second < FAULT or pod not in silent
    ]
    made = incidents.with_tables(incidents.make("slow"), logs=frames.empty("logs"))
    made = incidents.saying(made, *told)
    return incidents.edited(made, "group_state", member_count=missing)


def test_a_member_that_is_missing_and_whose_pod_is_silent_hangs():
    (finding,) = words(missing_one(silent=(1,)))["missing_member_silent"].findings
    assert incidents.PODS[1] in finding.statement
    assert finding.baseline == 20
    assert finding.onset == incidents.moment(FAULT - 10)
    assert finding.value == incidents.SECONDS - 10 - (FAULT - 10)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (missing_one(silent=()), "0 of 3 pods"),
        # nothing to do, or a log that is not written any more: nobody goes on
        (missing_one(silent=(0, 1)), "2 of 3 pods"),
        (missing_one(silent=(1,), missing=3), "No member is missing"),
        # one that never wrote often is not silent now
        (missing_one(silent=(1,), every=400), "0 of 3 pods"),
        (missing_one(silent=(1,), first=FAULT + 1), "0 of 0 pods"),
    ],
    ids=["all write", "most are silent", "nobody is missing", "seldom wrote", "never wrote"],
)
def test_silence_alone_is_no_hang(made, why):
    check = words(made)["missing_member_silent"]
    assert check.outcome == "absent"
    assert why in check.reason


# -- logins and rights


def test_a_refused_login_is_told_by_itself_and_is_no_lost_broker():
    text = (
        "[Consumer clientId=c1, groupId=g] Connection to node -1 (kafka/10.0.0.7:9092) failed "
        "authentication due to: Authentication failed: Invalid username or password"
    )
    seen = words(incidents.saying(quiet(), *repeated(text)))
    assert seen["access_refused"].outcome == "present"
    assert "(java)" in seen["access_refused"].findings[0].statement
    assert seen["transport_errors"].outcome == "absent"


def test_the_library_that_writes_a_line_is_named():
    seen = words(incidents.saying(quiet(), *repeated(CLIENT_WORDS[0])))
    assert "(librdkafka)" in seen["transport_errors"].findings[0].statement


def test_a_time_out_of_an_http_client_needs_no_name_of_the_downstream():
    text = "HTTPSConnectionPool(host='jobs.example', port=443): Read timed out. (read timeout=5)"
    made = incidents.saying(quiet("slow"), *repeated(text, level="INFO"))
    assert words(made)["downstream_complaints"].outcome == "present"


# -- the same record


def stuck_at(made, partition: int = 2) -> int:
    rows = made.partitions.loc[made.partitions["partition"] == partition]
    return int(rows["committed_offset"].iloc[-1])


POISON = quiet("poison_retry")
STUCK = stuck_at(POISON)


@pytest.mark.parametrize(
    "text",
    [
        f"cannot decode {TOPIC}[2]@{STUCK}: JSONDecodeError; will retry",
        f"Error deserializing key/value for partition {TOPIC}-2 at offset {STUCK}.",
        f"SerializationException: partition 2, offset {STUCK}",
        f"failed on {TOPIC} [2] offset={STUCK}",
        f"control-plane-api cannot decode {TOPIC}[2]@{STUCK}: bad schema",
    ],
)
def test_a_record_that_fails_again_and_again_is_named(text):
    check = words(incidents.saying(POISON, *repeated(text)))["same_record_fails"]
    assert check.outcome == "present"
    assert check.findings[0].id == f"same_record_fails:2@{STUCK}"
    assert "the very offset the group is stuck at" in check.findings[0].statement


def test_a_group_stuck_at_the_very_record_that_fails_is_told_apart_from_one_that_is_past_it():
    text = f"ERROR cannot decode record deploy-requests partition 2 offset {STUCK}"
    made = incidents.saying(POISON, *repeated(text))
    (found,) = words(made)["stuck_at_failing_record"].findings
    assert found.id == f"stuck_at_failing_record:2@{STUCK}"
    elsewhere = incidents.saying(POISON, *repeated(text.replace(str(STUCK), str(STUCK - 300))))
    assert words(elsewhere)["stuck_at_failing_record"].outcome == "absent"
    silent = incidents.without(POISON, "kubernetes")
    assert words(silent)["stuck_at_failing_record"].outcome == "not_checked"


REFUSED = "sasl_ssl://kafka:9093/bootstrap: SASL authentication error: Authentication failed"


def test_brokers_called_down_after_they_refused_a_login_are_not_out_of_reach():
    down = 'KafkaError{code=_ALL_BROKERS_DOWN,val=-187,str="1/1 brokers are down"}'
    refused = [*repeated(REFUSED), *repeated(down, begin=FAULT + 25)]
    seen = words(incidents.saying(quiet(), *refused))
    assert seen["access_refused"].outcome == "present"
    assert seen["transport_errors"].outcome == "absent"
    alone = words(incidents.saying(quiet(), *repeated(down)))
    assert alone["transport_errors"].outcome == "present"


def test_a_record_named_once_where_the_group_is_stuck_is_enough_if_it_cannot_be_decoded():
    text = f"cannot decode {TOPIC}[2]@{STUCK}: JSONDecodeError"
    made = incidents.saying(POISON, (FAULT + 30, 1, "ERROR", text))
    assert words(made)["same_record_fails"].outcome == "present"


def test_a_record_is_read_from_an_exceptions_own_line_which_has_no_level():
    text = f"o.a.k.RecordDeserializationException: Error deserializing VALUE for partition {TOPIC}-2 at offset {STUCK}. If needed"  # noqa: E501
    lines = [(second, pod, None, line) for second, pod, _, line in repeated(text)]
    check = words(incidents.saying(POISON, *lines))["same_record_fails"]
    assert check.findings[0].id == f"same_record_fails:2@{STUCK}"


def test_a_record_that_failed_before_the_onset_is_not_why():
    text = f"cannot decode {TOPIC}[2]@1100: JSONDecodeError; will retry"
    made = incidents.saying(quiet("slow"), *repeated(text, begin=200))
    assert words(made)["same_record_fails"].outcome == "absent"


def test_a_record_the_group_has_got_past_was_tried_again_and_handled():
    text = f"cannot handle {TOPIC}[2]@1100: timeout; will retry"
    made = incidents.saying(quiet("slow"), *repeated(text))
    assert words(made)["same_record_fails"].outcome == "absent"


def test_many_records_on_many_partitions_are_no_single_ones_fault():
    made = quiet("slow")
    lines = [
        (
            FAULT + 20 * n + k,
            n % 3,
            "ERROR",
            f"cannot handle {TOPIC}[{n % 6}]@{stuck_at(made, n % 6) + 5}",
        )
        for n in range(12)
        for k in range(2)
    ]
    check = words(incidents.saying(made, *lines))["same_record_fails"]
    assert check.outcome == "absent"
    assert "6 partitions" in check.reason


def test_a_record_named_in_a_call_of_the_downstream_is_not_the_records_fault():
    text = f"AWX launch failed: HTTP 503 ({TOPIC}[2]@{STUCK}); will retry"
    seen = words(incidents.saying(POISON, *repeated(text, level="WARNING")))
    assert seen["same_record_fails"].outcome == "absent"
    assert seen["downstream_complaints"].outcome == "present"


def test_progress_lines_that_name_records_are_no_errors():
    text = f"last record {TOPIC}[2]@{STUCK}"
    made = incidents.saying(POISON, *repeated(text, level="INFO"))
    assert words(made)["same_record_fails"].outcome == "absent"


# -- the downstream


@pytest.mark.parametrize(
    "text",
    [
        "AWX job 17 took 3.02 s",
        "AWX launch failed: timed out after 5.0 s",
        "awx-web: HTTP 503",
        "https://jobs.example/x: 502 Bad Gateway",
        "upstream request timed out",
        "kafka-worker: AWX launch failed: Connection refused",
    ],
)
def test_complaints_of_the_downstream_are_told(text):
    check = words(incidents.saying(quiet("slow"), *repeated(text, level="WARNING")))
    assert check["downstream_complaints"].outcome == "present"


@pytest.mark.parametrize(
    "text",
    [
        "missing AWX_URL: set it in the environment; error",
        "pod control-plane-api-abc failed",
        "topic api-events: error",
        "kafka:9092/1: 1 request(s) timed out: disconnect",
    ],
)
def test_what_only_sounds_like_the_downstream_is_no_complaint(text):
    made = incidents.saying(quiet("down"), *repeated(text, level="WARNING"))
    assert words(made)["downstream_complaints"].outcome == "absent"


def test_the_time_calls_took_is_measured():
    finding = words(SLOW)["downstream_complaints"].findings[0]
    assert (finding.value, finding.unit) == (3.02, "seconds")


# -- failed containers


def test_a_container_that_ends_with_an_error_that_names_no_record_is_told():
    finding = words(incidents.make("down"))["startup_failures"].findings[0]
    assert "missing AWX_URL" in finding.quote


def test_a_container_that_dies_on_a_record_has_no_failure_of_its_own():
    assert words(incidents.make("poison_crash"))["startup_failures"].outcome == "absent"


def test_failed_containers_whose_logs_are_lost_are_not_checked():
    made = incidents.make("down")
    other = made.logs.loc[~made.logs["previous"]].iloc[:0]
    stray = incidents.saying(incidents.with_tables(made, logs=other), (60, 0, "INFO", "handled 3"))
    assert words(stray)["startup_failures"].outcome == "not_checked"


def test_the_downstreams_crash_is_not_the_consumers():
    made = incidents.edited(
        SLOW,
        "pods",
        lambda t: t["role"] == "awx",
        last_exit_code=1,
        last_finished_at=incidents.moment(FAULT + 30),
    )
    assert words(made)["startup_failures"].outcome == "absent"


# -- in general


def test_the_downstreams_own_log_is_not_the_consumers():
    made = incidents.edited(
        incidents.saying(quiet(), *repeated(CLIENT_WORDS[0])),
        "logs",
        lambda t: t["message"].str.contains("FAIL"),
        role="awx",
    )
    assert words(made)["transport_errors"].outcome == "absent"


def test_without_logs_nothing_is_said():
    for made in (
        incidents.without(CALM, "kubernetes"),
        incidents.with_tables(CALM, logs=frames.empty("logs")),
    ):
        assert {check.outcome for check in words(made).values()} == {"not_checked"}


@pytest.mark.parametrize(
    "text", ["", "\x1b[31mred", "<script>", "(" * 500, "%s {x} \\", "kafka " * 300, "9" * 1900]
)
def test_a_hostile_line_is_only_text(text):
    made = incidents.saying(CALM, *repeated(f"{text}", level="ERROR"))
    assert all(check.outcome != "present" for check in words(made).values())


def test_a_quote_is_bounded():
    text = CLIENT_WORDS[0] + "x" * 1800
    finding = words(incidents.saying(quiet(), *repeated(text)))["transport_errors"].findings[0]
    assert len(finding.quote) <= 300


def test_failing_records_counts_lines_pods_and_first_time():
    lines = incidents.saying(
        CALM,
        (100, 0, "ERROR", f"{TOPIC}[1]@7 failed"),
        (110, 1, "WARN", f"{TOPIC}[1]@7 failed"),
        (120, 1, "INFO", f"{TOPIC}[1]@7 ok"),
    ).logs
    found = logs.failing_records(lines, (TOPIC,)).iloc[0]
    assert (found["partition"], found["offset"], found["times"]) == (1, 7, 2)
    assert found["first_at"] == incidents.moment(100)


def test_no_lines_give_no_records():
    assert logs.failing_records(frames.empty("logs"), (TOPIC,)).empty
    assert isinstance(logs.failing_records(CALM.logs, ()), pd.DataFrame)


def test_a_member_that_left_for_a_late_poll_has_lost_no_session():
    late = incidents.FAULT + 60
    made = incidents.saying(
        incidents.make("calm"),
        (late, 0, "WARNING", "rdkafka MAXPOLL: Application maximum poll interval exceeded"),
        (late + 1, 0, "ERROR", "commit failed: KafkaError{code=UNKNOWN_MEMBER_ID,val=25}"),
    )
    found = incidents.checks(logs.members_words, made)
    assert found["poll_interval_exceeded"].outcome == "present"
    assert found["heartbeat_lost"].outcome == "absent"


def test_another_member_that_is_not_known_any_more_has_lost_its_session():
    late = incidents.FAULT + 60
    made = incidents.saying(
        incidents.make("calm"),
        (late, 0, "WARNING", "rdkafka MAXPOLL: Application maximum poll interval exceeded"),
        (late + 1, 1, "ERROR", "commit failed: KafkaError{code=UNKNOWN_MEMBER_ID,val=25}"),
    )
    found = incidents.checks(logs.members_words, made)
    assert found["heartbeat_lost"].outcome == "present"
