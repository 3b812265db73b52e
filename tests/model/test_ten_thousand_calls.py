"""The model test: random callers, gateways, hang-ups, restarts, clocks and disks; 10,000 calls in the short form.

pytest tests/model                                                                     the short form
MODEL_CALLS=1000000 pytest -n 2 tests/model/test_ten_thousand_calls.py                 the long form
MODEL_SEED=123 pytest "tests/model/test_ten_thousand_calls.py::test_calls[2]"          a shard's calls again
"""

import os

import pytest
from model.machine import run

WANTED = int(os.environ.get("MODEL_CALLS", "10000"))
SHARDS = 4
LIMIT = 600 * max(1, WANTED // 10_000)  # seconds, on a slow machine; shrinking what was found among them


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_calls(template, shard, number):
    """Nobody is charged twice, no outcome is lost or reported wrongly, no card number or PIN leaves memory."""
    share = -(-WANTED // SHARDS)
    print(f"MODEL_SEED={number} MODEL_CALLS={WANTED}, shard {shard}")  # noqa: T201 - a failure shows it
    made = run(template, number * SHARDS + shard, share)
    assert made >= share
