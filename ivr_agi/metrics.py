"""What is counted and timed, for Prometheus: a registry of our own, one line for each thing that happens.

No label may hold what a caller, a card or the gateway says. Each label has few values, all of them words
of ours: a bank's code is one of outcomes.DECLINES or `other`. What can be counted from the start stands
at 0, so that the first one shows as an increase.

docs/monitoring has a dashboard and alert rules on these names; a test holds them together.
"""

from __future__ import annotations

import math
import os
import platform
import time
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    values,
)

from ivr_agi.limits import Scope
from ivr_agi.model import OtpVerdict, PayStatus, Verdict
from ivr_agi.outcomes import DECLINES

if TYPE_CHECKING:
    from collections.abc import Awaitable

SLOT: Final = "_IVR_AGI_SLOT"  # in the environment: this process's number among several

# Several processes count in files of one folder, which are added up. What comes in place of one that has died
# has its number, and goes on counting from where that one was.
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    values.ValueClass = values.MultiProcessValue(lambda: os.environ[SLOT])  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()
OTHER: Final = "other"
GAVE_UP: Final = "gave-up"

disable_created_metrics()  # type: ignore[no-untyped-call]  # a time stamp beside each counter would double the page
ProcessCollector(registry=REGISTRY)

build_info = Gauge(
    "ivr_agi_build_info", "Always 1", ["version", "python"], multiprocess_mode="livemax", registry=REGISTRY
)
ready = Gauge(
    "ivr_agi_ready",
    "Whether this part is ready, as /readyz says it",
    ["part"],
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)

calls_in_progress = Gauge(
    "ivr_agi_calls_in_progress", "Calls being served", multiprocess_mode="livesum", registry=REGISTRY
)
_calls_ended = Counter(
    "ivr_agi_calls_ended_total",
    "Calls ended, by PAYSTATUS and, when declined, the bank's code",
    ["status", "code"],
    registry=REGISTRY,
)
call_seconds = Histogram(
    "ivr_agi_call_seconds",
    "How long a call lasted",
    buckets=(5, 15, 30, 60, 90, 120, 180, 300, 600, 900),
    registry=REGISTRY,
)
connections_refused = Counter(
    "ivr_agi_connections_refused_total",
    "Connections that became no call: `peer` not allowed, server `full`, no AGI `environment` came, or let go"
    " because a `crowd` of them was silent",
    ["reason"],
    registry=REGISTRY,
)
over_limit = Counter(
    "ivr_agi_over_limit_total", "Payments turned away by a LIMIT_… setting, by whose it is", ["scope"],
    registry=REGISTRY,
)  # fmt: skip
paused = Gauge(
    "ivr_agi_paused",
    "1 while no payment begins (`ivr-agi pause`)",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
answers = Counter(
    "ivr_agi_question_answers_total",
    "Questions by the try that answered them (1, 2, …), or `gave-up`",
    ["question", "answered"],
    registry=REGISTRY,
)
drops = Counter(
    "ivr_agi_drops_total",
    "Callers lost, by the state they were in: `hang-up`, `gave-up` (no valid answer) or `too-long`",
    ["state", "how"],
    registry=REGISTRY,
)
sounds_missing = Counter(
    "ivr_agi_sounds_missing_total",
    "Times that Asterisk had no sound file; the log names it (sound.missing)",
    ["language"],
    registry=REGISTRY,
)

_gateway_seconds = Histogram(
    "ivr_agi_gateway_seconds",
    "How long the gateway took, by service and our verdict",
    ["service", "verdict"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120),
    registry=REGISTRY,
)
_pin_requests = Counter(
    "ivr_agi_pin_requests_total", "One-time PINs asked for, by verdict", ["verdict"], registry=REGISTRY
)
late_answers = Counter(
    "ivr_agi_late_answers_total",
    "Answers to `pay` that came after our time limit, by verdict",
    ["verdict"],
    registry=REGISTRY,
)
payments_unknown = Gauge(
    "ivr_agi_payments_unknown",
    "Payments in the journal whose outcome is open: each may have been charged; NaN until first counted",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)

journal_commit_seconds = Histogram(
    "ivr_agi_journal_commit_seconds",
    "From handing a step to the journal until it was on disk, or had failed",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
journal_commits = Counter(
    "ivr_agi_journal_commits_total",
    "Transactions committed; one may hold the steps of several calls",
    registry=REGISTRY,
)
journal_failures = Counter(
    "ivr_agi_journal_failures_total", "Times that the journal could not be written or read", registry=REGISTRY
)

notices = Counter(
    "ivr_agi_notices_total",
    "What came of telling the merchant: notices `delivered`, tries that `failed`, notices `given_up`",
    ["outcome"],
    registry=REGISTRY,
)
notices_pending = Gauge(
    "ivr_agi_notices_pending",
    "Notices neither delivered nor given up, in the journal",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
notices_oldest = Gauge(
    "ivr_agi_notices_oldest_seconds",
    "How long the oldest of them has been waiting",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)

# By their labels, found once. Each has few values, so these stay small; nothing removes a sample.
_ended = cache(_calls_ended.labels)
_took = cache(_gateway_seconds.labels)
_asked = cache(_pin_requests.labels)
answered = cache(answers.labels)

payments_unknown.set(math.nan)
for _status in PayStatus:
    for _code in (*DECLINES, OTHER) if _status is PayStatus.DECLINED else ("",):
        _calls_ended.labels(_status, _code)
for _verdict in OtpVerdict:
    _gateway_seconds.labels("otp-v2", _verdict)
    _pin_requests.labels(_verdict)
for _outcome in Verdict:
    _gateway_seconds.labels("pay", _outcome)
    late_answers.labels(_outcome)
for _told in ("delivered", "failed", "given_up"):
    notices.labels(_told)
for _scope in Scope:
    over_limit.labels(_scope)
for _reason in ("peer", "full", "environment", "crowd"):
    connections_refused.labels(_reason)


def build(version: str) -> None:
    """Say which release runs, and on which Python."""
    build_info.labels(version, platform.python_version()).set(1)


def call_ended(status: str, code: str, seconds: float) -> None:
    """A call has ended. status: PAYSTATUS; code: the bank's, whatever it may be."""
    known = code if code in DECLINES else OTHER
    code = known if status == PayStatus.DECLINED else ""
    _ended(status, code).inc()
    call_seconds.observe(seconds)


class _Answer(Protocol):
    @property
    def verdict(self) -> Verdict | OtpVerdict: ...


A = TypeVar("A", bound=_Answer)


async def timed(service: str, answer: Awaitable[A]) -> A:
    """Await the gateway's answer to `otp-v2` or `pay`, and record how long it took and what it was."""
    since = time.perf_counter()
    verdict = "broken"  # a bug of ours
    try:
        found = await answer
        verdict = found.verdict
    finally:
        _took(service, verdict).observe(time.perf_counter() - since)
        if service == "otp-v2":
            _asked(verdict).inc()
    return found
