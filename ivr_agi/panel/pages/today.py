"""How it goes: payments, callers and the gateway in figures, for today or any other period.

Everything is asked for in the address, so that a period can be kept as a bookmark. The journal is read in
several short looks, not in one: while SQLite is read, nothing can be written.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.routing import Route

from ivr_agi.journal import statistics
from ivr_agi.model import holds_card
from ivr_agi.outcomes import DECLINES
from ivr_agi.panel import charts, figures
from ivr_agi.panel.accounts import May
from ivr_agi.panel.charts import Bucket, Row, Series
from ivr_agi.panel.counts import ENDS, OUTCOMES, Callers, Outcomes, latencies, spans_of_time
from ivr_agi.panel.guard import guarded
from ivr_agi.panel.periods import NAMES, Period, Span, cut, day_names, named
from ivr_agi.panel.showing import language_of, page, path, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from ivr_agi.panel.charts import Latency

KEPT_FOR: Final = 60  # seconds that the gateway's times of several days are kept
ENOUGH: Final = 10  # payments in the period before: of fewer a percentage says nothing
CODES_DRAWN: Final = 9  # the rest of them is one bar; the table has all
# Steps that are drawn even if no call has ended there; the table has all.
DRAWN: Final = frozenset({"welcome", "confirm", "card", "pin", "pay"})
COLOURS: Final = {
    "paid": "bar-paid", "declined": "bar-declined", "unknown": "bar-unknown", "failed": "bar-failed",
    "not_paid": "series-3", "open": "series-5",
    "hangup": "series-3", "no_input": "series-4", "refused": "series-5", "chose": "series-2",
}  # fmt: skip


def routes() -> list[Route]:
    """Of this module."""
    return [Route("/today", guarded(partial(show, Kept()), May.COUNT), name="today")]


def clock() -> datetime:
    """Now."""
    return datetime.now(UTC)


class Kept:
    """What takes longest to count, for a minute: whoever reloads the page, or turns its language, has it."""

    def __init__(self) -> None:
        self._found: dict[object, tuple[float, Any]] = {}

    async def get(self, key: object, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What was found for the key, if that is not too old; else ask."""
        now = clock().timestamp()
        self._found = {each: found for each, found in self._found.items() if now - found[0] < KEPT_FOR}
        if key not in self._found:
            found = await ask()
            self._found[key] = now, found
        return self._found[key][1]


async def show(kept: Kept, request: Request) -> Response:
    """The figures of a period: period=NAME, or from=DAY and to=DAY."""
    now, language = clock(), language_of(request)
    asked = {name: request.query_params.get(name, "").strip()[:30] for name in ("period", "from", "to")}
    asked = {name: "" if holds_card(text) else text for name, text in asked.items()}  # none comes back
    period, errors = _period(asked, now)
    shown: dict[str, Any] = {
        "asked": asked,
        "errors": {name: say(f"today.{word}", language) for name, word in errors.items()},
        "periods": _links(request, asked, period, language),
        "period": period,
        "now": now.isoformat(),
        "may_resolve": May.RESOLVE in request.app.state.panel.may(request.state.user),
    }
    if period is None:
        return page(request, "today.html", 422, **shown)
    spans = cut(period, language)
    counted = await _count(request.app.state.panel.journal.look, kept, period, spans, now)
    shown |= {
        "name": day_names(period.first, period.last, language),
        "under_way": period.under_way(now),
        "counted": counted,
        "changes": _changes(counted, period, now, language),
    }
    return page(request, "today.html", **shown | _pictures(counted, spans, language))


# -- which period -----------------------------------------------------------------------------------------


def _period(asked: Mapping[str, str], now: datetime) -> tuple[Period | None, dict[str, str]]:
    """The period, or what is wrong: by field, a word of words/today.toml."""
    if not asked["from"] and not asked["to"]:
        return named(asked["period"], now) or named(NAMES[0], now), {}
    days, errors = {}, {}
    for name in ("from", "to"):
        try:
            days[name] = figures.parse_day(asked[name]) if asked[name] else None
        except ValueError:
            errors[name] = "no_day"
    if errors:
        return None, errors
    first, last = days["from"] or days["to"], days["to"] or days["from"]
    if first is None or last is None or last < first:
        return None, {"to": "ends_before"}
    return Period(first, last), {}


class Link(NamedTuple):
    """To a period."""

    url: str
    text: str
    current: bool


def _links(request: Request, asked: Mapping[str, str], period: Period | None, language: str) -> list[Link]:
    chosen = asked["period"] if asked["period"] in NAMES else NAMES[0]
    by_name = period is not None and not asked["from"] and not asked["to"]
    url = path(request, "today")
    return [
        Link(f"{url}?period={name}", say(f"today.period_{name}", language), by_name and name == chosen)
        for name in NAMES
    ]


# -- what is counted --------------------------------------------------------------------------------------


class Counted(NamedTuple):
    """All figures of a period. each: payments by span; before: those of what it is compared with."""

    payments: Outcomes
    each: list[Outcomes]
    before: Outcomes | None
    codes: dict[str, int]
    callers: Callers
    gateway: dict[str, dict[int, int]]


async def _count(
    look: Callable[[Any], Any], kept: Kept, period: Period, spans: Sequence[Span], now: datetime
) -> Counted:
    edges = [*(span.since for span in spans), spans[-1].until]
    since, until = period.bounds
    by_span = await look(partial(statistics.payments, edges=edges))
    failed = await look(partial(statistics.failed_after_pay, since=since, until=until))
    before = None
    if earlier := period.before(now):
        kinds = await look(partial(statistics.payments, edges=earlier))
        failed_then = await look(partial(statistics.failed_after_pay, since=earlier[0], until=earlier[1]))
        before = Outcomes.of(kinds, failed_then)
    gateway = partial(look, partial(statistics.gateway, since=since, until=until))
    return Counted(
        payments=Outcomes.of(by_span, failed),
        each=[Outcomes.of([kinds]) for kinds in by_span],
        before=before,
        codes=await look(partial(statistics.codes, since=since, until=until)),
        callers=Callers.of(await look(partial(statistics.calls, since=since, until=until))),
        gateway=await (kept.get(period, gateway) if period.days > 1 else gateway()),
    )


def _changes(counted: Counted, period: Period, now: datetime, language: str) -> list[str]:
    """Sentences that compare with the period before; none if there was nothing, or nothing to compare."""
    before, payments = counted.before, counted.payments
    if before is None or not before.sent:
        return []
    against = _against(period, now, language)
    found = []
    for what, write in (("count", figures.number), ("rials", figures.money)):
        this, that = (getattr(each.tallies["paid"], what) for each in (payments, before))
        word = "more" if this > that else "less" if this < that else "same"
        if before.tallies["paid"].count < ENOUGH:
            word = "beside"
        values = {
            "what": say(f"today.paid_{what}", language),
            "share": figures.percent(abs(this - that), that, language),
            "against": against,
            "now": write(this, language),
            "before": write(that, language),
        }
        found.append(say(f"today.change_{word}", language, **values))
    rates = {
        "what": say("today.rate", language),
        "against": against,
        "now": figures.percent(payments.tallies["paid"].count, payments.sent, language),
        "before": figures.percent(before.tallies["paid"].count, before.sent, language),
    }
    return [*found, say("today.change_beside", language, **rates)]


def _against(period: Period, now: datetime, language: str) -> str:
    """What the period is compared with, in words."""
    size = "month" if period.monthly else "day" if period.days == 1 else "days"
    word = f"today.against_{size}" + ("_so_far" if period.under_way(now) else "")
    return say(word, language, days=figures.number(period.days, language))


# -- the pictures, and their tables -----------------------------------------------------------------------


def _pictures(counted: Counted, spans: Sequence[Span], language: str) -> dict[str, Any]:
    """Charts, and what their tables have beyond `counted`."""
    services = {name: say(f"today.service_{name}", language) for name in statistics.SERVICES}
    distributions = latencies(counted.gateway, services)
    return {
        "over_time": _over_time(counted, spans, language),
        "outcomes": _kinds(counted.payments),
        "spans": list(zip(spans, counted.each, strict=True)),
        "codes_chart": _codes_chart(counted.codes, language),
        "codes": [(code, meaning(code, language), count) for code, count in counted.codes.items()],
        "funnel": _funnel(counted.callers, language),
        "ends": [end for end in ENDS if any(step.ended.get(end) for step in counted.callers.steps)],
        "latency": charts.latency(
            distributions, ident="latency", title=say("today.latency", language), language=language
        ),
        "services": services,
        "quantiles": [_quantiles(each, language) for each in distributions],
        "times": [
            (_time(low, high, language), by_service)
            for low, high, by_service in spans_of_time(counted.gateway)
        ],
    }


def _kinds(payments: Outcomes) -> list[str]:
    """Outcomes that a chart shows: those that are rare only if there are any."""
    return [name for name in OUTCOMES if name not in ("not_paid", "open") or payments.tallies[name].count]


def _series(names: Sequence[str], words: str, language: str) -> list[Series]:
    return [Series(name, say(f"today.{words}_{name}", language), COLOURS[name]) for name in names]


def _over_time(counted: Counted, spans: Sequence[Span], language: str) -> Markup:
    buckets = [
        Bucket(span.label, {name: tally.count for name, tally in each.tallies.items()}, span.name)
        for span, each in zip(spans, counted.each, strict=True)
    ]
    return charts.columns(
        buckets,
        _series(_kinds(counted.payments), "outcome", language),
        ident="over-time",
        title=say("today.over_time", language),
        language=language,
        unit=say("today.unit_payments", language),
    )


def meaning(code: str, language: str) -> str:
    """What a bank's code says, in an operator's words."""
    return say(f"codes.{code if code in DECLINES else 'other' if code else 'none'}", language)


def _codes_chart(codes: Mapping[str, int], language: str) -> Markup:
    rows = [
        Row(": ".join(filter(None, (figures.digits(code, language), meaning(code, language)))), count)
        for code, count in codes.items()
    ]
    if len(rows) > CODES_DRAWN + 1:
        rest = sum(row.value for row in rows[CODES_DRAWN:])
        rows = [*rows[:CODES_DRAWN], Row(say("today.codes_rest", language), rest, "series-5")]
    return charts.bars(rows, ident="codes", title=say("today.codes", language), language=language)


def _funnel(callers: Callers, language: str) -> Markup:
    if not callers.calls.count:
        return charts.funnel([], [], ident="", title="", language=language)
    steps = [
        charts.Step(say(f"live.state_{step.state}", language), step.reached, step.ended)
        for step in callers.steps
        if step.state in DRAWN or step.ended
    ]
    ends = [end for end in ENDS if any(step.ended.get(end) for step in callers.steps)]
    return charts.funnel(
        steps,
        _series(ends, "end", language),
        ident="funnel",
        title=say("today.funnel", language),
        language=language,
    )


def _quantiles(service: Latency, language: str) -> tuple[str, int, list[str]]:
    """A service, how many answers, and within which times a half, 95 and 99 of 100 came."""
    found = [service.quantile(share) for share in charts.QUANTILES]
    said = [figures.NONE if each is None else figures.milliseconds(each * 1000, language) for each in found]
    return service.label, sum(service.counts), said


def _time(low: int, high: int | None, language: str) -> str:
    """A span of milliseconds in words."""
    if high is None:
        return say("today.time_over", language, low=figures.milliseconds(low, language))
    low_text, high_text = (figures.milliseconds(ms, language) for ms in (low, high))
    return say("today.time_span", language, low=low_text, high=high_text)
