"""Whatever comes from outside: what hypothesis makes of it, what the fuzzers have kept, and what they have found."""

import os
import time
from pathlib import Path

import oracles
import pytest
import structlog
from hostile import MADE
from hypothesis import HealthCheck, given, settings
from seeds import seeds
from targets import TARGETS, write_exchange

HERE = Path(__file__).parent
TIMES = int(os.environ.get("FUZZ_TIMES", "1"))  # more: as many times the examples, and others each time
EXAMPLES = {
    "answers": 400,
    "http": 150,
    "order": 400,
    "wire": 400,
    "environment": 250,
    "command": 300,
    "settlement": 300,
}
FOUND = sorted(path for path in HERE.glob("found/*/*") if path.is_file())


@pytest.fixture(autouse=True)
def _no_log():
    def drop(*_entry):
        raise structlog.DropEvent

    structlog.configure(processors=[drop])


def tried(name, times=TIMES, **given_):
    """A target as a property of what hypothesis makes for it."""
    profile = settings(
        **given_,
        max_examples=EXAMPLES[name] * times,
        deadline=None,
        database=None,
        derandomize=times == 1,
        suppress_health_check=list(HealthCheck),
    )

    @profile
    @given(MADE[name])
    def holds(made):
        TARGETS[name](made)

    return holds


@pytest.mark.parametrize("name", TARGETS)
def test_properties_hold(name):
    """Whatever hypothesis makes of a way in, what must hold of it holds."""
    tried(name)()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_corpus(name):
    """What is genuine, and what the fuzzers have kept because it went another way, does no harm."""
    inputs = seeds()[name] + [path.read_bytes() for path in sorted((HERE / "corpus" / name).iterdir())]
    assert len(inputs) > len(seeds()[name])
    for given_ in inputs:
        TARGETS[name](given_)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_found_once(path, monkeypatch, request):
    """What once broke a property, named by it, does so no more."""
    if path.name.partition(".")[0] in oracles.OPEN:
        request.applymarker(
            pytest.mark.xfail(reason="known, see oracles.OPEN", raises=oracles.Violation, strict=True)
        )
    monkeypatch.setattr(oracles, "OPEN", frozenset())
    TARGETS[path.parent.name](path.read_bytes())


def test_corpus_stays_small():
    """The repository holds what is worth its room."""
    files = [path for folder in ("corpus", "found") for path in (HERE / folder).rglob("*") if path.is_file()]
    assert len(files) < 300
    assert sum(path.stat().st_size for path in files) < 300_000


# -- much of it -------------------------------------------------------------------------------------

FORMS = ['{"status":0,"errors":%s}', '{"status":%s}', '{"status":1,"data":[%s]}', '{"status":-9,"data":%s}']


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
def test_deeply_nested(form, opens, closes):
    """However deep an answer is nested, at the edge of what Python reads as well: a verdict, and nothing raised."""
    for depth in [*range(800, 960, 20), *range(960, 1010, 2), 5_000, 9_000]:
        body = (form % (opens * depth + "1" + closes * depth)).encode()
        for status in (200, 422):
            TARGETS["answers"](write_exchange(True, status, "", body))
            TARGETS["order"](b"%d\n" % status + body)


@pytest.mark.parametrize("text", ["1", "1-", "1 ", "12345 ", "۱", "\\u0000", "0", "a", "=-", "a1"])
@pytest.mark.parametrize(
    "form", ['{"status":0,"errors":"%s"}', '{"status":1,"data":{"refID":"%s"}}', '{"status":%s}']
)
def test_long(form, text):
    """A long answer is judged in no time: nothing is tried in more ways than it has letters."""
    exchange = write_exchange(True, 200, "", (form % (text * (20_000 // len(text)))).encode())
    began = time.process_time()
    TARGETS["answers"](exchange)
    assert time.process_time() - began < 0.5
