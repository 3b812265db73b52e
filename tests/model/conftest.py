"""What the model's tests share: an empty journal, and the seed."""

import os
import random

import pytest

from ivr_agi.journal import Journal


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """An empty journal of this release."""
    file = tmp_path_factory.mktemp("model") / "empty.db"
    Journal(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def number():
    """The seed: `MODEL_SEED`, as a failure prints it; else a new one each time."""
    given = os.environ.get("MODEL_SEED")
    return int(given) if given else random.SystemRandom().randrange(2**31)


@pytest.fixture
def settled_number():
    """The seed where what is looked for is known to be there: the same each time."""
    return int(os.environ.get("MODEL_SEED", "25"))
