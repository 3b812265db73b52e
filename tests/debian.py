"""Programs that a test needs and `make test` installs: without one it is skipped, on CI it fails."""

import os
import shutil
import sys
from pathlib import Path

import pytest

VENV = str(Path(sys.executable).parent)
CACHE = Path(__file__).parent.parent / ".cache"


def program(name):
    """Where a program is: on the PATH, beside this Python, or under .cache."""
    found = next(
        filter(None, (shutil.which(name, path=path) for path in (None, VENV, str(CACHE / name)))), None
    )
    if not found and os.environ.get("CI"):
        pytest.fail(f"no {name}: `make test` installs it")
    if not found:
        pytest.skip(f"no {name}: `make test` installs it")
    return found
