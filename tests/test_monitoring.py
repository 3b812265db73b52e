"""The dashboard and the alert rules: each name in them is one that the server exports, with these labels."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import yaml
from debian import program
from line import open_line

from ivr_agi import metrics
from ivr_agi.simulator.channel import HANG_UP
from ivr_agi.web import Health

MONITORING = Path(__file__).parent.parent / "docs" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
DASHBOARD = MONITORING / "grafana-dashboard.json"

# PromQL's own words, as far as they are used.
WORDS = {
    "and", "by", "day_of_week", "histogram_quantile", "hour", "increase", "max", "min", "on", "or", "rate",
    "sum", "label_values",
}  # fmt: skip
PROMETHEUS_OWN = {"up"}
LABELS_OF_PROMETHEUS = {"instance", "job"}


async def exported(tmp_path):
    """Every sample that a server exports after a call with something of everything: its name, with its labels."""
    metrics.build("test")
    async with open_line(tmp_path) as line:
        await line.call(
            line.buyer(enter_card=["", line.buyer()["enter-card"]], enter_pin=HANG_UP),
            missing={"ivr-agi/welcome"},
        )
        await Health(line.journal, lambda: True).refresh()
    return {
        sample.name: set(sample.labels) for family in metrics.REGISTRY.collect() for sample in family.samples
    }


def alerts():
    """Each rule's expression, by the alert's name."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def panels():
    """Each query of the dashboard, by its panel's title."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel.get("targets", [])
    }
    return queries | {
        variable["name"]: variable["query"]["query"]
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    }


def read(expression):
    """An expression's metrics, and the labels that it names."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"\"", bare))
    for listed in re.findall(r"\bby\s*\(([^)]*)\)", bare):
        labels |= {label.strip() for label in listed.split(",")}
    if found := re.fullmatch(r"label_values\(\w+, (\w+)\)", bare):
        labels.add(found[1])
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"[A-Za-z_:][\w:]*", bare)) - WORDS - labels, labels


async def test_names_are_exported(tmp_path):
    """No panel and no rule waits for a metric, or a label, that the server does not have."""
    names = await exported(tmp_path)
    for title, expression in (alerts() | panels()).items():
        used, labels = read(expression)
        assert used, title
        assert used <= names.keys() | PROMETHEUS_OWN, title
        has = set().union(*(names.get(name, set()) for name in used)) | LABELS_OF_PROMETHEUS
        assert labels <= has, title


async def test_a_wrong_name_is_found(tmp_path):
    """The test above could fail: a name with a slip in it is no exported one."""
    used, labels = read(
        'sum by (stat) (rate(ivr_agi_call_ended_total{code="x"}[5m])) > 0 and on() hour() > 6'
    )
    assert (used, labels) == ({"ivr_agi_call_ended_total"}, {"stat", "code"})
    assert not used & (await exported(tmp_path)).keys()


def test_readme_lists_every_metric():
    """The table in docs/monitoring names each metric of ours, and no other."""
    readme = (MONITORING / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(ivr_agi_\w+)`", readme))
    ours = set()
    for family in metrics.REGISTRY.collect():
        if family.name.startswith("ivr_agi_"):
            ours.add(family.name + ("_total" if family.type == "counter" else ""))
    assert listed == ours


def test_every_metric_is_used():
    """What is exported is looked at: on the dashboard or by a rule."""
    text = ALERTS.read_text(encoding="utf-8") + DASHBOARD.read_text(encoding="utf-8")
    unused = [family.name for family in metrics.REGISTRY.collect() if family.name.startswith("ivr_agi_")]
    assert [name for name in unused if name not in text] == []


def test_dashboard_is_whole():
    """Grafana takes it: an id for each panel, a place for each that covers no other, a datasource of its own choice."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert (board["title"], board["uid"]) == ("ivr-agi", "ivr-agi")
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}"


def test_every_alert_says_what_to_do():
    """A rule has a severity, a summary and what to do about it."""
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["annotations"].keys() == {"summary", "description"}


def promtool(*arguments, cwd):
    """What it complains of; empty if of nothing."""
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 or said
    return said if done.returncode else ""


def test_promtool_takes_the_rules(tmp_path):
    """`promtool check rules`."""
    assert promtool("check", "rules", str(ALERTS), cwd=tmp_path) == ""


UNKNOWN = [{"series": 'ivr_agi_payments_unknown{instance="a"}', "values": "_ NaN 0 2x20"}]
ERRORS = [
    {
        "series": 'ivr_agi_gateway_seconds_count{instance="a",service="pay",verdict="paid"}',
        "values": "0+2x60",
    },
    {
        "series": 'ivr_agi_gateway_seconds_count{instance="a",service="pay",verdict="unknown"}',
        "values": "0+1x60",
    },
]
QUIET = [{"series": 'ivr_agi_calls_ended_total{instance="a",status="PAID",code=""}', "values": "5x6000"}]
BROKEN = [
    {"series": 'ivr_agi_journal_failures_total{instance="a"}', "values": "0 0 0 1 1"},
    {"series": 'ivr_agi_ready{instance="a",part="journal"}', "values": "1 1 1 0x10"},
    {"series": 'ivr_agi_sounds_missing_total{instance="a",language="fa"}', "values": "0 0 0 3 3"},
]


# promtool's clock begins at 1970-01-01, a Thursday, 00:00 UTC: 1 d 8 h is Friday morning, 2 d 8 h is Saturday's.
FIRES = [
    (UNKNOWN, "1m", "IvrAgiPaymentsUnknown", False),
    (UNKNOWN, "6m", "IvrAgiPaymentsUnknown", True),
    (ERRORS, "30m", "IvrAgiGatewayFailing", True),
    (ERRORS[:1], "30m", "IvrAgiGatewayFailing", False),
    (QUIET, "32h", "IvrAgiNoCalls", False),
    (QUIET, "56h", "IvrAgiNoCalls", True),
    (QUIET, "65h", "IvrAgiNoCalls", False),
    (BROKEN, "4m", "IvrAgiJournalFailing", True),
    (BROKEN, "6m", "IvrAgiNotReady", True),
    (BROKEN, "4m", "IvrAgiSoundsMissing", True),
]


def fed(tmp_path, fires):
    """Prometheus itself, fed with numbers: what it says against these.

    Days are gone through in greater steps than minutes are: each step takes its time.
    """
    return "".join(
        _fed(tmp_path, [case for case in fires if case[1].endswith(unit)], step)
        for unit, step in (("m", "1m"), ("h", "10m"))
    )


def _fed(tmp_path, fires, step):
    cases = []
    for series, group in itertools.groupby(fires, lambda case: case[0]):
        asked = [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": int(firing)}],
            }
            for _, at, alert, firing in group
        ]
        cases.append({"interval": "1m", "input_series": series, "promql_expr_test": asked})
    case = {"rule_files": [str(ALERTS)], "evaluation_interval": step, "tests": cases}
    (tmp_path / "case.yml").write_text(yaml.safe_dump(case), encoding="utf-8")
    return promtool("test", "rules", "case.yml", cwd=tmp_path)


def test_alerts_fire(tmp_path):
    """Each rule fires when it should, and is quiet when it should."""
    assert fed(tmp_path, FIRES) == ""


def test_each_is_looked_at(tmp_path):
    """The test above could fail in each of its cases: told the contrary, Prometheus says no to all of them."""
    said = fed(tmp_path, [(series, at, alert, not fires) for series, at, alert, fires in FIRES])
    found = re.findall(r'alertname=\\"(\w+)', said)
    assert sorted(found) == sorted(alert for _, _, alert, _ in FIRES), said
