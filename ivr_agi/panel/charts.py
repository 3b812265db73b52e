"""Charts as SVG text: columns over time, bars by kind, a call's funnel, how long a service takes.

No script, no style: colours come from classes (panel.css), so that light and dark are its business alone.
A drawing stretches and its texts do not: places across are a percentage plus some pixels, heights are
pixels. So a text is as large on a phone as on a desk. What fits a wide drawing alone has the class
`wide-only`, what stands in for it on a phone `narrow-only`.

Time and number axes run left to right in Persian, too: that is how Persian papers, school books and
spreadsheets draw them. Bars without an axis begin where a line of text begins. MIRRORED_AXES turns the axes.

Whoever sees no drawing has <title> and <desc>; the page adds a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from ivr_agi.panel.drawing import NARROW, TEXT, WIDE, Drawing, chart, fitting, seen, width_of, wrapped
from ivr_agi.panel.figures import NONE, number, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIRRORED_AXES: Final = False  # True: Persian axes run right to left
QUANTILES: Final = (0.5, 0.95, 0.99)
_LANE: Final = 138  # pixels for each service
_LONGEST: Final = 100  # pixels of a label on an axis

_WORDS: Final[dict[str, dict[str | int, str]]] = {
    "fa": {
        "to": "تا", "most": "بیشترین", "went-on": "ادامه دادند", "ended": "پایان در این مرحله",
        "over": "بیش از", "quantile": "صدک {}:", "seconds": "ثانیه", "s": "ثانیه", "list": "، ", "end": "؛ ",
        3: "هزار", 6: "میلیون", 9: "میلیارد", 12: "هزار میلیارد",
    },
    "en": {
        "to": "to", "most": "Most", "went-on": "Went on", "ended": "ended here",
        "over": "over", "quantile": "p{}", "seconds": "seconds", "s": "s", "list": ", ", "end": "; ",
        3: "thousand", 6: "million", 9: "billion", 12: "trillion",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """One kind of thing that is counted. key: in `counts`; css: its class (`bar-paid`, `series-2`)."""

    key: str
    label: str
    css: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """A span of time. label: short, for the axis; counts: by series' key; name: the span in full."""

    label: str
    counts: Mapping[str, int]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One bar."""

    label: str
    value: int
    css: str = "series-1"


@dataclass(frozen=True, slots=True)
class Step:
    """A state of the call. reached: calls that came here; ended: those that ended there, by series' key."""

    label: str
    reached: int
    ended: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Latency:
    """How long a service took. bounds: 2 or more upper ones, in seconds; counts: one more, for beyond."""

    label: str
    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    def edges(self) -> tuple[float, ...]:
        """All bounds, with one below and one above as far as their neighbours are: a log axis has no 0."""
        first, second, *_ = self.bounds
        return (first * first / second, *self.bounds, self.bounds[-1] * self.bounds[-1] / self.bounds[-2])

    def quantile(self, share: float) -> float | None:
        """Estimate the seconds within which a share was served; infinity: beyond all bounds; None: none."""
        wanted, edges = share * sum(self.counts), self.edges()
        for place, count in enumerate(self.counts):
            if count and wanted <= count:
                if place == len(self.bounds):
                    return math.inf
                low, high = edges[place : place + 2]
                return low * math.pow(high / low, wanted / count)
            wanted -= count
        return None


# -- the charts ---------------------------------------------------------------------------------------


def columns(  # noqa: PLR0913 - four of them are by name, the same for each chart
    buckets: Sequence[Bucket], series: Sequence[Series], *,
    ident: str, title: str, language: str, unit: str = "",
) -> Markup:  # fmt: skip
    """Stacked columns over time, in the order given. ident: unique in the page; unit: what is counted.

    A count above 0 is seen however small it is. Empty for no buckets.
    """
    if not buckets:
        return Markup()
    word = _WORDS[language]
    totals = [sum(bucket.counts.get(each.key, 0) for each in series) for bucket in buckets]
    ticks, tick_labels, caption = _scale(max(totals), unit, language)
    top, foot = 10 + 18 * bool(caption), 170 + 18 * bool(caption)
    labels = [fitting(bucket.label, _LONGEST) for bucket in buckets]
    before, after, step, wide_step = _thinned(labels, 10 + max(width_of(text) for text in tick_labels))
    drawing = Drawing(foot + 24, language, before, after, mirrored=MIRRORED_AXES)
    if caption:
        drawing.text(0, TEXT, caption, pixels=-drawing.before)
    for tick, text in zip(ticks, tick_labels, strict=True):
        y = foot - (foot - top) * tick / ticks[-1]
        drawing.grid_line(y, css="grid-line" if tick else "axis")
        drawing.text(0, y + 4, text, anchor="end", pixels=-6)
    fill = min(0.72, 0.14 * len(buckets))  # a few columns are no walls
    names = [bucket.name or bucket.label for bucket in buckets]
    for at, (bucket, name) in enumerate(zip(buckets, names, strict=True)):
        middle, later = (at + 0.5) / len(buckets), len(buckets) - 1 - at
        parts = [(bucket.counts.get(each.key, 0) * (foot - top) / ticks[-1], each.css) for each in series]
        tip = f"{name}: {word['list'].join(_each(series, bucket.counts, language)) or number(0, language)}"
        drawing.column(middle, 1 / len(buckets), (top, foot), seen(parts, 3), tip=tip, fill=fill)
        if later % wide_step == 0:
            shown = "" if later % step == 0 else "wide-only"
            drawing.text(middle, foot + 17, labels[at], css=f"tick {shown}".rstrip(), anchor="middle")
    sums = {each.key: sum(bucket.counts.get(each.key, 0) for bucket in buckets) for each in series}
    most = max(range(len(buckets)), key=totals.__getitem__)
    desc = f"{names[0]} {word['to']} {names[-1]}. " if len(names) > 1 else f"{names[0]}. "
    desc += f"{word['list'].join(_each(series, sums, language, zeros=True))}."
    if totals[most]:
        desc += f" {word['most']}: {names[most]} ({number(totals[most], language)})."
    legend = [(each.css, each.label, number(sums[each.key], language)) for each in series]
    return chart(drawing, ident, title, desc, legend)


def bars(rows: Sequence[Row], *, ident: str, title: str, language: str, whole: int | None = None) -> Markup:
    """Horizontal bars in the order given, each with its value and share of `whole` (default: their sum)."""
    if not rows:
        return Markup()
    whole = sum(row.value for row in rows) if whole is None else whole
    longest = max(*(row.value for row in rows), 1)
    drawing = Drawing(len(rows) * 40, language, mirrored=True)
    said = []
    for at, row in enumerate(rows):
        figures = f"{number(row.value, language)} ({percent(row.value, whole, language)})"
        drawing.heading(at * 40 + 14, row.label, figures)
        drawing.bar(at * 40 + 20, 12, [(row.value / longest, row.css)], tip=f"{row.label}: {figures}")
        said.append(f"{row.label}: {figures}")
    return chart(drawing, ident, title, _WORDS[language]["end"].join(said) + ".", [])


def funnel(steps: Sequence[Step], ends: Sequence[Series], *, ident: str, title: str, language: str) -> Markup:
    """The call's states in order: how many calls came to each, and how many ended there, by `ends`."""
    if not steps:
        return Markup()
    word, first = _WORDS[language], max(*(step.reached for step in steps), 1)
    ended = [_each(ends, step.ended, language) for step in steps]
    below = [wrapped(parts, word["list"], NARROW) for parts in ended]
    tops = list(accumulate((48 + 16 * len(lines) for lines in below), initial=0))
    drawing, said = Drawing(tops.pop(), language, mirrored=True), []
    for y, step, parts, lines in zip(tops, steps, ended, below, strict=True):
        text = word["list"].join(parts)
        figures = f"{number(step.reached, language)} ({percent(step.reached, steps[0].reached, language)})"
        shares = [(step.ended.get(end.key, 0) / first, end.css) for end in ends]
        went_on = max(step.reached / first - sum(share for share, _ in shares), 0)
        said.append(f"{step.label}: {figures}" + (f"{word['list']}{word['ended']}: {text}" if text else ""))
        drawing.heading(y + 14, step.label, figures)
        drawing.bar(y + 20, 14, [(went_on, "series-1"), *shares], tip=said[-1])
        drawing.lines(y + 49, text, lines)
    sums = {end.key: sum(step.ended.get(end.key, 0) for step in steps) for end in ends}
    legend = [("series-1", word["went-on"], "")]
    legend += [(end.css, end.label, number(sums[end.key], language)) for end in ends]
    return chart(drawing, ident, title, word["end"].join(said) + ".", legend)


def latency(services: Sequence[Latency], *, ident: str, title: str, language: str) -> Markup:
    """How long each service took, on a logarithmic axis, with p50, p95, p99 (estimates, as the bounds allow).

    The area of a bar is its count. All services need the same bounds.
    """
    if not services:
        return Markup()
    edges, word, said = services[0].edges(), _WORDS[language], []
    places = [math.log(edge / edges[0]) / math.log(edges[-1] / edges[0]) for edge in edges]
    drawing = Drawing(len(services) * _LANE + 36, language, 8, 8, mirrored=MIRRORED_AXES)
    _seconds_axis(drawing, edges[1:-1], places[1:-1], len(services) * _LANE, language)
    for at, service in enumerate(services):
        total, base = number(sum(service.counts), language), (at + 1) * _LANE - 8
        density = [n / (high - low) for n, low, high in zip(service.counts, places, places[1:], strict=False)]
        drawing.heading(at * _LANE + 14, service.label, total)
        for place, (count, dense) in enumerate(zip(service.counts, density, strict=True)):
            low, high = places[place : place + 2]
            parts = seen([(60 * dense / (max(density) or 1), f"series-{at % 5 + 1}")], 3)
            tip = f"{_span(service.bounds, place, language)}: {number(count, language)}"
            drawing.column((low + high) / 2, high - low, (base - 60, base), parts, tip=tip, fill=0.97)
        drawing.grid_line(base, css="axis")
        marks = _marks(service, language)
        drawing.marks(marks, at * _LANE + 32, base)
        said.append(f"{service.label} ({total}): {word['list'].join(text for _, text in marks) or NONE}")
    return chart(drawing, ident, title, word["end"].join(said) + ".", [])


# -- their scales and words ----------------------------------------------------------------------------


def _scale(most: int, unit: str, language: str) -> tuple[list[int], list[str], str]:
    """Round ticks from 0 to above `most`, their texts, and the unit that these are in."""
    rough = max(most, 1) / 4
    power = 10 ** max(math.floor(math.log10(rough)), 0)
    step = next(power * size for size in (1, 2, 5, 10) if power * size >= rough)
    ticks = list(range(0, max(most, 1) + step, step))
    thousands = min(len(str(ticks[-1])) - 1, 14) // 3 * 3 if ticks[-1] >= 10_000 else 0  # noqa: PLR2004
    caption = f"{_WORDS[language][thousands]} {unit}" if thousands else unit
    return ticks, [number(tick / 10**thousands, language) for tick in ticks], caption.strip()


def _thinned(labels: Sequence[str], before: float) -> tuple[float, float, int, int]:
    """Margins, and every how many columns there is a label, counted from the last: on a phone, and else."""
    widest, count = max(width_of(label) for label in labels), len(labels)
    after = max(4, widest / 2 - (NARROW - before - widest / 2) / count / 2)
    before = max(before, after)

    def fits(step: int, width: float) -> bool:
        return step >= count or step * (width - before - after) / count >= widest + 10

    wide_step = next(step for step in range(1, count + 1) if fits(step, WIDE))
    step = next(step for step in range(wide_step, 2 * count + 1, wide_step) if fits(step, NARROW))
    return before, after, step, wide_step


def _seconds_axis(
    drawing: Drawing, bounds: Sequence[float], places: Sequence[float], y: float, language: str
) -> None:
    """Label the bounds that there is room for, powers of ten first, on a phone and else."""
    taken: dict[int, list[tuple[float, float]]] = {NARROW: [], WIDE: []}
    order = sorted(
        zip(bounds, places, strict=True), key=lambda at: (math.log10(at[0]) % 1 > 0, at[0] % 5 > 0, at)
    )
    for bound, place in order:
        text = number(bound, language, 4)
        half, fits = width_of(text) / 2 + 4, []
        for width, others in taken.items():
            middle = place * (width - drawing.before - drawing.after)
            if all(middle + half <= low or high <= middle - half for low, high in others):
                others.append((middle - half, middle + half))
                fits.append(width)
        if WIDE in fits:
            css = "tick" if NARROW in fits else "tick wide-only"
            drawing.text(place, y + 10, text, css=css, anchor="middle")
    drawing.text(0.5, y + 28, _WORDS[language]["seconds"], anchor="middle")


def _marks(service: Latency, language: str) -> list[tuple[float, str]]:
    """The quantiles' places on the axis, and what is said of them."""
    edges, word, marks = service.edges(), _WORDS[language], []
    for share in QUANTILES:
        found = service.quantile(share)
        if found is not None:
            over = f"{word['over']} " if math.isinf(found) else ""
            seconds = service.bounds[-1] if over else found
            place = math.log(seconds / edges[0]) / math.log(edges[-1] / edges[0])
            name = word["quantile"].format(number(share * 100, language))
            decimals = 1 if seconds >= 1 else 2 if seconds >= 0.1 else 3  # noqa: PLR2004 - two digits that count
            marks.append((place, f"{name} {over}{number(float(seconds), language, decimals)} {word['s']}"))
    return marks


def _span(bounds: Sequence[float], place: int, language: str) -> str:
    """A bucket of a histogram in words."""
    word = _WORDS[language]
    if place == len(bounds):
        return f"{word['over']} {number(bounds[-1], language, 4)} {word['seconds']}"
    low = bounds[place - 1] if place else 0
    return f"{number(low, language, 4)} {word['to']} {number(bounds[place], language, 4)} {word['seconds']}"


def _each(
    series: Sequence[Series], counts: Mapping[str, int], language: str, *, zeros: bool = False
) -> list[str]:
    """Each kind that there is, with its number."""
    return [
        f"{each.label} {number(counts.get(each.key, 0), language)}"
        for each in series
        if zeros or counts.get(each.key, 0)
    ]
