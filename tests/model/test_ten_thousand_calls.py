"""The model test: random callers, gateways, hang-ups, restarts, clocks and disks; 10,000 calls in the short form.

pytest tests/model                                             the short form
MODEL_CALLS=1000000 pytest -n 2 --timeout 0 tests/model/test_ten_thousand_calls.py   the long form
MODEL_SEED=123 pytest "tests/model/test_ten_thousand_calls.py::test_calls[2]"     the same calls again
"""

import pytest
from model.machine import run

SHARDS = 4


@pytest.mark.timeout(600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_calls(template, shard, wanted, number):
    """Nobody is charged twice, no outcome is lost or reported wrongly, no card number or PIN leaves memory."""
    share = -(-wanted // SHARDS)
    print(f"MODEL_SEED={number} MODEL_CALLS={wanted}, shard {shard}")  # noqa: T201 - shown when it fails
    made = run(template, number * SHARDS + shard, share)
    assert made >= share
