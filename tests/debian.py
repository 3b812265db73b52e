"""Programs of Debian's that a test needs and `make test` installs: without one it is skipped, on CI it fails."""

import os
import shutil
from pathlib import Path

import pytest

CACHE = Path(__file__).parent.parent / ".cache"


def program(name):
    """Where a program is: on the PATH, or under .cache."""
    found = shutil.which(name) or shutil.which(name, path=str(CACHE / name))
    if not found and os.environ.get("CI"):
        pytest.fail(f"no {name}: `make test` installs it")
    if not found:
        pytest.skip(f"no {name}: `make test` installs it")
    return found
