"""What the canary's tests share: the disk that fails."""

import subprocess
from pathlib import Path

import pytest
from debian import program


@pytest.fixture(scope="session")
def failing_disk(tmp_path_factory):
    """The library that makes writes of the journal fail (tests/faults/disk.c)."""
    made = tmp_path_factory.mktemp("faults") / "disk.so"
    source = Path(__file__).parent.parent / "faults" / "disk.c"
    subprocess.run(
        [program("gcc"), "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", made, source, "-ldl"],
        check=True,
    )
    return made
