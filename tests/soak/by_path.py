"""Modules of benchmarks/, by their path: it is no package, and some of its names are taken in the tests."""

import importlib.util
import sys
from functools import cache
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@cache
def benchmark(name):
    """One of them, under a name that nobody else has."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
