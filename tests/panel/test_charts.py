"""The panel's charts: well-formed, complete, legible on a phone, and safe with any text."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from ivr_agi.panel import charts, drawing, figures
from ivr_agi.panel.charts import Bucket, Latency, Row, Series, Step

LANGUAGES = ("fa", "en")
SVG = "{http://www.w3.org/2000/svg}"
SERIES = [
    Series("paid", "Paid", "bar-paid"),
    Series("declined", "Declined", "bar-declined"),
    Series("unknown", "Unknown", "bar-unknown"),
]
ENDS = [Series("hang-up", "Hung up", "series-2"), Series("gave-up", "Gave up", "series-3")]
BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
HOSTILE = "<script>alert(1)</script>\"'&\x00\u202e"


def tree(markup):
    """The chart as a tree, read by an XML parser that forgives nothing."""
    assert isinstance(markup, Markup)
    return ET.fromstring(str(markup).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))  # noqa: S314 - our own


def days(count, counts, label="{} November"):
    return [Bucket(label.format(day + 1), counts(day), f"day {day + 1}") for day in range(count)]


def words(markup):
    return " ".join(tree(markup).itertext())


def some(kind, language, text="A label"):
    """One chart of each kind, with a text from outside in every place that takes one."""
    common = {"ident": "one", "title": text, "language": language}
    series = [Series("paid", text, "bar-paid")]
    return {
        "columns": lambda: charts.columns(
            [Bucket(text, {"paid": 12_345}, text)], series, unit=text, **common
        ),
        "bars": lambda: charts.bars([Row(text, 12_345)], **common),
        "funnel": lambda: charts.funnel([Step(text, 12_345, {"paid": 3})], series, **common),
        "latency": lambda: charts.latency([Latency(text, BOUNDS, (12_345, *(0,) * 11))], **common),
    }[kind]()


KINDS = ("columns", "bars", "funnel", "latency")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_chart_has_words(kind, language):
    """A screen reader finds a picture with a name and its figures in words, by ids that are the page's choice."""
    svg = tree(some(kind, language)).find(f"{SVG}svg")
    title, desc = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert svg.get("role") == "img"
    assert (svg.get("aria-labelledby"), svg.get("aria-describedby")) == (title.get("id"), desc.get("id"))
    assert title.get("id") == "one-title"
    assert title.text == "A label"
    assert figures.number(12_345, language) in desc.text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_policy_forbids_is_not_there(kind, language):
    """No style, no script, no handler: `style-src 'self'` would leave them out."""
    for element in tree(some(kind, language)).iter():
        assert element.tag.removeprefix(SVG) not in ("style", "script", "foreignObject")
        assert not [name for name in element.attrib if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_from_outside_is_a_text(kind, language):
    """Markup in a label is shown as such; what XML has no place for, and what turns a line round, is left out."""
    markup = some(kind, language, HOSTILE)
    assert "<script" not in markup
    assert "\u202e" not in markup
    assert "<script>alert(1)</script>\"'&" in words(markup)


@given(st.text(max_size=40))
@settings(max_examples=40, deadline=None)
def test_any_text_leaves_a_chart_well_formed(text):
    """Whatever a label holds, an XML parser reads the chart."""
    tree(some("bars", "fa", text))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_drawn_of_nothing(kind):
    """No rows, no chart; the page says so in its own words."""
    common = {"ident": "one", "title": "t", "language": "en"}
    args = ([], SERIES) if kind in ("columns", "funnel") else ([],)
    assert getattr(charts, kind)(*args, **common) == ""


# -- columns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_columns_have_every_figure(language):
    """Each bucket's figures stand in its tip, each sum in the legend, the greatest in the description."""
    buckets = days(30, lambda day: {"paid": 1000 + day, "declined": 200 + day, "unknown": day % 2})
    said = words(charts.columns(buckets, SERIES, ident="c", title="t", language=language))
    for bucket in buckets:
        for each in SERIES:
            if bucket.counts[each.key]:
                assert f"{each.label} {figures.number(bucket.counts[each.key], language)}" in said
    for total in (sum(range(1000, 1030)), sum(range(200, 230)), 15):
        assert figures.number(total, language) in said
    assert f"day 30 ({figures.number(1029 + 229 + 1, language)})" in said


def shapes(markup, css):
    return [each for each in tree(markup).iter(f"{SVG}rect") if each.get("class") == css]


def test_the_one_unknown_payment_is_seen():
    """One among ten thousand is three pixels high, and the column is no higher for it."""
    buckets = days(3, lambda day: {"paid": 10_000, "unknown": int(day == 1)})
    drawn = charts.columns(buckets, SERIES, ident="c", title="t", language="en")
    (unknown,) = shapes(drawn, "bar-unknown")
    paid = [float(each.get("height")) for each in shapes(drawn, "bar-paid")]
    assert float(unknown.get("height")) == 3
    assert paid[0] == pytest.approx(paid[1] + 3, abs=0.02)


def test_heights_are_the_figures():
    """Twice as many is twice as high, from the same base, stacked without a gap."""
    drawn = charts.columns(days(2, lambda day: {"paid": 20 * (day + 1), "declined": 20}), SERIES,
                           ident="c", title="t", language="en")  # fmt: skip
    one, two = shapes(drawn, "bar-paid")
    assert float(two.get("height")) == pytest.approx(2 * float(one.get("height")), abs=0.02)
    bottoms = {float(each.get("y")) + float(each.get("height")) for each in (one, two)}
    assert max(bottoms) - min(bottoms) <= 0.02
    above = shapes(drawn, "bar-declined")[0]
    assert float(above.get("y")) + float(above.get("height")) == pytest.approx(float(one.get("y")), abs=0.02)


@pytest.mark.parametrize("language", LANGUAGES)
def test_time_runs_left_to_right_unless_switched(language, monkeypatch):
    """Also in Persian; the one switch turns the Persian chart and leaves the English one."""
    buckets = days(5, lambda day: {"paid": day + 1})

    def places():
        drawn = shapes(charts.columns(buckets, SERIES, ident="c", title="t", language=language), "bar-paid")
        return [float(each.get("x")[:-1]) for each in drawn]

    assert places() == sorted(places())
    monkeypatch.setattr(charts, "MIRRORED_AXES", True)
    assert places() == sorted(places(), reverse=language == "fa")


@pytest.mark.parametrize("unit", ["", "rials"])
@pytest.mark.parametrize(
    "most", [0, 1, 3, 4, 7, 10, 99, 100, 101, 9_999, 10_000, 123_456, 5 * 10**9, 7 * 10**13]
)
def test_ticks_are_round(most, unit):
    """From 0 to no less than the greatest, few, evenly far apart, short to read, the last not far above."""
    ticks, texts, caption = charts._scale(most, unit, "en")
    assert ticks[0] == 0
    assert most <= ticks[-1] <= max(1.5 * most, most + 1)
    assert len(ticks) in range(2, 7)
    assert len({b - a for a, b in pairwise(ticks)}) == 1
    assert len(set(texts)) == len(texts)
    assert max(len(text) for text in texts) <= 5
    assert (unit in caption) if unit else caption in ("", "thousand", "million", "billion", "trillion")


def boxes(svg, width, hidden):
    """Where the texts of a drawing lie at a width, by the module's guess at letters: (left, right, top, bottom)."""
    turned = {"start": "end", "end": "start"} if svg.get("direction") == "rtl" else {}
    for text in svg.iter(f"{SVG}text"):
        if hidden in text.get("class").split() or not text.text:
            continue
        shift = re.match(r"translate\((\S+) 0\)", text.get("transform", "translate(0 0)"))
        x = float(text.get("x")[:-1]) / 100 * width + float(shift[1])
        long, anchor = drawing.width_of(text.text), text.get("text-anchor")
        left = x - {"start": 0, "middle": long / 2, "end": long}[turned.get(anchor, anchor)]
        y = float(text.get("y"))
        yield text.text, left, left + long, y - 9, y + 3


def assert_apart(markup):
    """No text over another, none beyond the drawing's edge, on a phone and on a desk."""
    svg = tree(markup).find(f"{SVG}svg")
    assert float(svg.get("font-size")) >= 11
    assert svg.get("viewBox") is None, "texts would shrink with the drawing"
    for width, hidden in (
        (drawing.NARROW, "wide-only"),
        (drawing.WIDE, "narrow-only"),
        (1100, "narrow-only"),
    ):
        found = list(boxes(svg, width, hidden))
        for at, (text, left, right, top, bottom) in enumerate(found):
            assert left >= -1, (width, text)
            assert right <= width + 1, (width, text)
            assert bottom <= float(svg.get("height")), (width, text)
            for other, low, high, upper, lower in found[at + 1 :]:
                apart = right <= low or high <= left or bottom <= upper or lower <= top
                assert apart, (width, text, other)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("label", ["{}", "{} November", "a long name of span {}"])
def test_labels_of_columns_do_not_collide(language, label):
    """For 1 to 62 buckets, whatever their labels, the last bucket has its label and none lies over another."""
    for count in range(1, 63):
        buckets = days(count, lambda day: {"paid": 100 * day}, label)
        drawn = charts.columns(buckets, SERIES, ident="c", title="t", language=language, unit="rials")
        assert_apart(drawn)
        shown = [text.text for text in tree(drawn).iter(f"{SVG}text")]
        assert drawing.fitting(buckets[-1].label, 100) in shown


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("count", [1, 24, 62])
def test_columns_of_nothing(language, count):
    """A quiet day is a chart with its axis, its labels and no column."""
    drawn = charts.columns(days(count, lambda _: {}), SERIES, ident="c", title="t", language=language)
    assert_apart(drawn)
    assert not [each for each in tree(drawn).iter(f"{SVG}rect") if each.get("class") != "hit"]
    assert f"day 1: {figures.number(0, language)}" in words(drawn)


def test_columns_do_not_touch():
    """At the narrowest, 62 columns still leave a gap between them."""
    drawn = charts.columns(days(62, lambda _: {"paid": 1}), SERIES, ident="c", title="t", language="en")
    spans = []
    for group in tree(drawn).iter(f"{SVG}g"):
        shift = float(re.search(r"translate\((\S+) 0\)", group.get("transform"))[1])
        column = next(each for each in group.iter(f"{SVG}rect") if each.get("class") == "bar-paid")
        left = float(column.get("x")[:-1]) / 100 * drawing.NARROW + shift
        spans.append((left, left + float(column.get("width")[:-1]) / 100 * drawing.NARROW))
    assert len(spans) == 62
    assert all(one[1] + 0.5 < two[0] for one, two in pairwise(spans))


# -- bars, funnel, latency ----------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_bars(language):
    """Each has its value and its share, as long as it is much, from where a line of text begins; a long name is cut."""
    rows = [
        Row("Insufficient funds " * 6, 300, "bar-declined"),
        Row("Wrong PIN", 100, "bar-failed"),
        Row("None", 0),
    ]
    drawn = charts.bars(rows, ident="b", title="t", language=language)
    assert_apart(drawn)
    for row in rows:
        figure = f"{figures.number(row.value, language)} ({figures.percent(row.value, 400, language)})"
        assert f"{row.label}: {figure}" in words(drawn)
    long, short = shapes(drawn, "bar-declined")[0], shapes(drawn, "bar-failed")[0]
    assert [each.get("width") for each in (long, short)] == ["100.000%", "33.333%"]
    assert short.get("x") == ("66.667%" if language == "fa" else "0.000%")


def test_shares_of_another_whole():
    """The bars may be a part of all calls."""
    assert "5 (5%)" in words(charts.bars([Row("a", 5)], ident="b", title="t", language="en", whole=100))


@pytest.mark.parametrize("language", LANGUAGES)
def test_funnel(language):
    """Each state tells who came and who ended there by how; what goes on is as long as the next state is."""
    steps = [
        Step("Welcome", 12_000, {"hang-up": 1_500}),
        Step("Card", 10_500, {"hang-up": 250, "gave-up": 2_250}),
        Step("Pay", 8_000, {}),
    ]
    drawn = charts.funnel(steps, ENDS, ident="f", title="t", language=language)
    assert_apart(drawn)
    said = words(drawn)
    for step in steps:
        assert f"{step.label}: {figures.number(step.reached, language)}" in said
    for figure in (1_500, 250, 2_250, 1_750):
        assert figures.number(figure, language) in said
    assert figures.percent(8_000, 12_000, language) in said
    goes_on = [float(each.get("width")[:-1]) for each in shapes(drawn, "series-1")]
    assert goes_on == [pytest.approx(100 * part / 12_000, abs=0.01) for part in (10_500, 8_000, 8_000)]


def test_a_funnel_with_many_ends_is_wrapped():
    """On a phone the ends go over several lines, and no figure is lost; nobody called is no fault."""
    ends = [Series(f"e{n}", f"An ending by {n}", "series-2") for n in range(6)]
    steps = [Step("Card", 9_000, {f"e{n}": 1_000 + n for n in range(6)}), Step("Pay", 0, {})]
    for language in LANGUAGES:
        drawn = charts.funnel(steps, ends, ident="f", title="t", language=language)
        assert_apart(drawn)
        narrow = [text.text for text in tree(drawn).iter(f"{SVG}text") if "narrow-only" in text.get("class")]
        assert len(narrow) > 1
        for n in range(6):
            assert figures.number(1_000 + n, language) in " ".join(narrow)
        charts.funnel([Step("Card", 0, {})], ends, ident="f", title="t", language=language)


SERVED = {
    "all-fast": (9, *(0,) * 11),
    "all-slow": (*(0,) * 11, 9),
    "spread": (3, 40, 300, 420, 120, 30, 9, 3, 1, 0, 0, 0),
    "in-the-middle": (0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0),
    "fast-but-some": (900, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60),
    "one-at-each": (1,) * 12,
    "half-in-the-first-third": (0, 0, 50, 0, 0, 0, 40, 0, 0, 0, 10, 0),
    "none": (0,) * 12,
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("counts", [pytest.param(value, id=key) for key, value in SERVED.items()])
def test_latency(counts, language):
    """Each quantile there is has its line and its text, wherever on the axis it falls."""
    service = Latency("otp-v2", BOUNDS, counts)
    drawn = charts.latency([service, service], ident="l", title="t", language=language)
    assert_apart(drawn)
    lines = [each for each in tree(drawn).iter(f"{SVG}line") if each.get("class") == "mark"]
    assert len(lines) == (6 if any(counts) else 0)
    svg = tree(drawn).find(f"{SVG}svg")
    for width, hidden in ((drawing.NARROW, "wide-only"), (1100, "narrow-only")):
        for line in lines:
            shift = re.search(r"translate\((\S+) 0\)", line.get("transform", "translate(0 0)"))
            x = float(line.get("x1")[:-1]) / 100 * width + float(shift[1])
            for text, left, right, top, bottom in boxes(svg, width, hidden):
                over = float(line.get("y1")) < bottom and top < float(line.get("y2"))
                assert not (over and left < x < right), (width, text)
    for count in filter(None, counts):
        assert f"{figures.number(count, language)}" in words(drawn)
    for share in charts.QUANTILES if any(counts) else ():
        found = service.quantile(share)
        seconds = float(BOUNDS[-1] if math.isinf(found) else found)
        decimals = 1 if seconds >= 1 else 2 if seconds >= 0.1 else 3
        assert f" {figures.number(seconds, language, decimals)} " in words(drawn)


def test_quantiles():
    """They lie in the bucket in which that share is reached, and beyond the last bound is beyond it."""
    spread = Latency("pay", (1, 10, 100), (50, 45, 4, 1))
    assert spread.quantile(0.5) == pytest.approx(1)
    assert spread.quantile(0.95) == pytest.approx(10)
    assert spread.quantile(0.725) == pytest.approx(10**0.5)
    assert spread.quantile(0.99) == pytest.approx(100)
    assert spread.quantile(0.999) == math.inf
    assert Latency("pay", (1, 10), (0, 0, 0)).quantile(0.5) is None


def test_the_area_of_a_bar_is_its_count():
    """Two buckets with as many, one of them twice as wide on the axis, is half as high."""
    drawn = charts.latency([Latency("pay", (1, 10, 1000), (0, 5, 5, 0))], ident="l", title="t", language="en")
    narrow, wide = shapes(drawn, "series-1")
    assert float(narrow.get("height")) == pytest.approx(2 * float(wide.get("height")), abs=0.02)
    assert float(wide.get("width")[:-1]) == pytest.approx(2 * float(narrow.get("width")[:-1]), abs=0.02)
