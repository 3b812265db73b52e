"""Who may import whom. A part that grows a forbidden import is a part that has grown a second job."""

import ast
from pathlib import Path

import pytest

import ivr_agi

ROOT = Path(ivr_agi.__file__).parent

# part -> the parts of this package that it may import. `cli` wires all; nothing imports `cli`.
MAY_IMPORT = {
    "model": set(),
    "limits": set(),
    "settings": {"limits"},
    "hardening": set(),
    "metrics": {"limits", "model", "outcomes"},
    "notify": set(),
    "logs": {"model"},
    "agi": {"model"},
    "listener": {"agi"},
    "exchange": set(),
    "https": {"exchange"},
    "signature": {"model"},
    "gateway": {"exchange", "https", "model"},
    "orders": {"model", "request", "signature", "https"},
    "webhook": {"journal", "metrics", "model", "signature", "https"},
    "journal": {"limits", "metrics", "model"},
    "prompts": set(),
    "sounds": {"prompts"},
    "simulator": {"prompts"},  # and nothing of the client's: it would share its mistakes
    "outcomes": {"model"},
    "request": {"model"},
    "call": {"agi", "metrics", "model"},
    "cardhash": {"model"},
    "settlement": {"model"},
    "payments": {"cardhash", "gateway", "journal", "metrics", "model", "outcomes"},
    "web": {"journal", "metrics"},
    "panel": {
        "__version__",
        "export",
        "flow",
        "hardening",
        "journal",
        "logs",
        "model",
        "outcomes",
        "payments",
        "prompts",
        "reconciling",
        "rehearsal",
        "request",
        "reviewing",
        "server",
        "settings",
        "settlement",
        "simulator",
        "sounds",
    },
    "doctor": {"journal", "prompts", "settings", "sounds", "https"},
    "session": {"model", "orders", "outcomes", "payments", "prompts", "request"},
    "charge": {"model", "outcomes", "payments", "prompts", "request", "settings"},
    "export": set(),
    "reviewing": {"journal", "model"},
    "reconciling": {"journal", "settlement"},
    "rehearsal": {"gateway", "journal", "model", "payments", "server", "settings", "simulator"},
    "demo": {"journal", "panel", "rehearsal", "simulator", "web"},
    "preview": {"prompts", "rehearsal", "simulator", "sounds"},
    "flow": {"call", "model", "orders", "outcomes", "payments", "prompts", "request", "session"},
    "conversation": {"agi", "call", "flow", "metrics", "model", "payments", "prompts", "session"},
    "door": {"agi", "metrics", "model", "settings"},
    "workers": {"metrics", "notify", "server"},
    "server": {
        "door",
        "listener",
        "agi",
        "call",
        "conversation",
        "metrics",
        "model",
        "orders",
        "payments",
        "request",
        "session",
        "settings",
    },
}


def parts():
    """Every module of the package, with the part that it belongs to."""
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        part = place.parts[0].removesuffix(".py")
        if part not in ("__init__", "__main__", "cli", "_shipped"):
            yield part, path


def imported(path):
    """The parts of this package that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "ivr_agi":
                names = [f"ivr_agi.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("ivr_agi."):
                yield name.split(".")[1]


@pytest.mark.parametrize(
    ("part", "path"), [pytest.param(*found, id=str(found[1].relative_to(ROOT))) for found in parts()]
)
def test_imports(part, path):
    """Each module imports its own part and what MAY_IMPORT lists, no more."""
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what {part} may import"
    assert set(imported(path)) - {part} <= MAY_IMPORT[part]


def test_only_agi_imports_pyst2():
    """pyst2 (`asterisk`) is the codec's business alone."""
    users = {
        path.name
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (
            isinstance(node, ast.Import)
            and any(alias.name.split(".")[0] == "asterisk" for alias in node.names)
        )
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "asterisk")
    }
    assert users == {"agi.py"}
