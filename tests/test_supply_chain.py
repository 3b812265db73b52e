"""What is installed is what was looked at: the lock, the bill of materials, the wheel that comes out the same.

None of it asks a registry anything. What the lists must agree with is read with a parser of another make than tools/sbom's.
"""

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DIRECT = [
    Requirement(line)
    for line in PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["postgres"]
]
LOCKS = ["requirements.lock", "requirements-build.lock"]
HASH = re.compile(r"--hash=(\S+)")
PYTHONS = ["3.11", "3.12", "3.13"]
CODES = re.compile(r"# noqa: (?:[A-Z]+\d+, )*(S\d{3})")


def needed(module):
    """A module of the `dev` extra: without it a test is skipped, on CI it fails."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no {module}: pip install '.[dev]'")


def lines(name):
    """A lock's lines, those that go on put together, without comments."""
    text = (ROOT / name).read_text(encoding="utf-8")
    joined = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines()]


def locked(name="requirements.lock"):
    """{canonical name: (requirement, hashes)} of a lock."""
    found = {}
    for line in lines(name):
        requirement = Requirement(line.partition(" --hash")[0])
        found[canonicalize_name(requirement.name)] = (requirement, HASH.findall(line))
    return found


def version(requirement):
    (pin,) = requirement.specifier
    return pin.version


def bill():
    return json.loads((ROOT / "sbom.cdx.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", LOCKS)
def test_each_line_is_one_version_with_its_hashes(name):
    """No range, no address, no option: a name, one version, perhaps where it is needed, and SHA-256s."""
    for line in lines(name):
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+!]+( ; [^\\]+?)?(\s+--hash=sha256:[0-9a-f]{64})+", line), line[
            :80
        ]
    assert len(locked(name)) == len(lines(name)), "a name stands there twice"


def test_direct_dependencies_are_locked_within_their_range():
    """What pyproject.toml asks for, the extra `postgres` too, is there in a version that it admits, and on every platform."""
    there = locked()
    for asked in DIRECT:
        found, _ = there[canonicalize_name(asked.name)]
        assert asked.specifier.contains(version(found)), f"{found} is not {asked}: make lock"
        assert found.marker is None, found


def test_builder_is_locked_within_its_range():
    """What builds the wheel, too."""
    there = locked("requirements-build.lock")
    for asked in map(Requirement, PROJECT["build-system"]["requires"]):
        assert asked.specifier.contains(version(there[canonicalize_name(asked.name)][0])), asked


@pytest.mark.parametrize("python", PYTHONS)
def test_nothing_is_missing(python):
    """What the locked packages need themselves is locked in a version that they admit, on each Python.

    That is seen of packages installed here in the very version that is locked.
    """
    there, seen, looked_at = locked(), set(), 0
    waiting = [(canonicalize_name(one.name), frozenset(one.extras)) for one in DIRECT]
    here = default_environment() | {"python_version": python, "python_full_version": f"{python}.1"}
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        pinned = version(there[name][0])
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if installed.version != pinned:
            continue
        looked_at += 1
        for asked in map(Requirement, installed.requires or []):
            if asked.marker and not any(
                asked.marker.evaluate(here | {"extra": one}) for one in extras or [""]
            ):
                continue
            found, _ = there[canonicalize_name(asked.name)]
            assert asked.specifier.contains(version(found), prereleases=True), f"{name} needs {asked}"
            assert found.marker is None or found.marker.evaluate(here), found
            waiting.append((canonicalize_name(asked.name), frozenset(asked.extras)))
    assert looked_at, "nothing is installed in the locked version: make lock ARGS=--upgrade"


def test_bill_is_of_this_lock(tmp_path):
    """Made anew it is the same, byte for byte: it has no time, no chance, no tool's version in it."""
    subprocess.run([sys.executable, ROOT / "tools/sbom", tmp_path / "again.json"], check=True)
    assert (tmp_path / "again.json").read_bytes() == (ROOT / "sbom.cdx.json").read_bytes(), "make sbom"


def test_bill_lists_what_the_lock_lists():
    """Each package with its version and all its hashes, and nothing else; ours is made of the direct ones."""
    listed = {
        part["name"]: (
            part["version"],
            sorted("sha256:" + one["content"] for one in part["externalReferences"][0]["hashes"]),
        )
        for part in bill()["components"]
    }
    assert listed == {name: (version(found), sorted(hashes)) for name, (found, hashes) in locked().items()}
    us = bill()["metadata"]["component"]
    (ours,) = (entry["dependsOn"] for entry in bill()["dependencies"] if entry["ref"] == us["bom-ref"])
    direct = {f"pkg:pypi/{canonicalize_name(one.name)}" for one in DIRECT}
    assert {ref.partition("@")[0] for ref in ours} >= direct
    assert {ref.partition("@")[0] for ref in ours} <= direct | {"pkg:pypi/psycopg-binary"}  # psycopg[binary]


def test_bill_is_valid():
    """CycloneDX's own schema, in the strict reading, finds nothing; in a broken one it does."""
    json_validation = needed("cyclonedx.validation.json")
    schema = needed("cyclonedx.schema").SchemaVersion.V1_6
    validator = json_validation.JsonStrictValidator(schema)
    assert validator.validate_str(json.dumps(bill())) is None
    broken = bill()
    broken["components"][0]["type"] = "thing"
    assert validator.validate_str(json.dumps(broken)) is not None


@pytest.mark.parametrize("name", [*LOCKS, "sbom.cdx.json"])
def test_no_host_is_named(name):
    """Where packages come from is the machine's setting: no address stands in these, but that of the schema."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = text.replace("http://cyclonedx.org/schema/bom-1.6.schema.json", "")
    assert re.findall(r"\S*://\S+|\b[\w-]+\.(?:org|com|net|io|dev|ir)\b", text) == []


def copied(source, target, *, mode, age):
    """The parts of a source tree, with their own permissions and times."""
    for path in sorted(source.rglob("*"), reverse=age > 0):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        place.chmod(mode)
        os.utime(place, (1_600_000_000 + age, 1_600_000_000 + age))
    return target


def built(folder, **environment):
    """{file name: SHA-256} of what is built in a folder."""
    needed("hatchling")
    clean = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder / "dist"],
        cwd=folder,
        env=clean | environment,
        check=True,
        capture_output=True,
    )
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "dist").iterdir()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """What the wheel and the sdist are made from, in a folder of its own: nobody changes it meanwhile."""
    folder = tmp_path_factory.mktemp("sources")
    targets = PROJECT["tool"]["hatch"]["build"]["targets"]
    parts = {*targets["wheel"]["packages"], *targets["wheel"]["force-include"], *targets["sdist"]["include"]}
    for path in {found for part in parts | {"pyproject.toml"} for found in ROOT.glob(part)}:
        if path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__", "*.db"))
        else:
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def first_build(sources, tmp_path_factory):
    folder = copied(sources, tmp_path_factory.mktemp("here") / "tree", mode=0o644, age=0)
    return folder, built(folder, TZ="UTC", PYTHONHASHSEED="1")


def test_wheel_and_sdist_are_reproducible(sources, first_build, tmp_path):
    """Built in another folder, later, by somebody with another umask, time zone and order of files: the same bytes."""
    later = copied(sources, tmp_path / "elsewhere" / "deeper", mode=0o600, age=86_400 * 400)
    _, first = first_build
    assert built(later, TZ="Asia/Tehran", PYTHONHASHSEED="2", LC_ALL="C") == first
    assert sorted(Path(name).suffix for name in first) == [".gz", ".whl"]


def test_wheel_holds_the_package_alone(first_build):
    """Each file of the package and of what it ships, and its metadata; no test, setting, journal, key or byte code."""
    folder, _ = first_build
    target = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    places = {name: name for name in target["packages"]} | target["force-include"]
    expected = {
        f"{place}/{path.relative_to(folder / source)}"
        for source, place in places.items()
        for path in (folder / source).rglob("*")
        if path.is_file()
    }
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name for name in names if not name.startswith("ivr_agi-")} == expected
    assert all(name.split("/")[0].endswith(".dist-info") for name in set(names) - expected)
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names += archive.getnames()
    forbidden = re.compile(r"(^|/)(\.env|\.git|\.venv|\.cache|secrets|__pycache__)(/|$)|\.(pyc|db|pem|key)$")
    assert [name for name in names if forbidden.search(name)] == []


def test_image_installs_the_lock_alone():
    """Each pip of the Dockerfile takes hashed wheels of a lock, or nothing from outside at all."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"\bpip (?:--python \S+ )?((?:install|wheel|download) [^&\n]+)", text)
    used = set()
    for command in commands:
        words = command.split()
        if "--no-index" in words:
            assert {"--no-deps"} <= set(words), command
            continue
        assert {"--require-hashes", "--only-binary", ":all:"} <= set(words), command
        used.add(words[words.index("--requirement") + 1])
    assert used == set(LOCKS)
    assert "--no-build-isolation" in next(command for command in commands if command.startswith("wheel"))


def test_dependabot_is_of_the_documented_form():
    """Version 2; each ecosystem, where it lies and how often; and nothing that is installed from outside is forgotten."""
    found = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text(encoding="utf-8"))
    assert set(found) == {"version", "updates"}
    assert found["version"] == 2
    places = {"pip": ["pyproject.toml"], "docker": ["Dockerfile"], "docker-compose": ["docker-compose.yml"]}
    if (ROOT / ".github/workflows").exists():
        places["github-actions"] = [".github/workflows"]
    for update in found["updates"]:
        assert set(update) <= {"package-ecosystem", "directory", "schedule", "cooldown", "groups"}
        assert set(update["schedule"]) == {"interval"}
        assert update["schedule"]["interval"] in {"daily", "weekly", "monthly"}
        folder = ROOT / update["directory"].removeprefix("/")
        assert all((folder / name).exists() for name in places[update["package-ecosystem"]])
    assert {update["package-ecosystem"] for update in found["updates"]} == set(places)


def test_each_silenced_finding_has_its_reason():
    """What a security rule was told to overlook stands in docs/supply-chain.md, and no more than that."""
    silenced = {
        f"{path.relative_to(ROOT)} {code}"
        for path in (ROOT / "ivr_agi").rglob("*.py")
        for code in CODES.findall(path.read_text(encoding="utf-8"))
    }
    page = (ROOT / "docs/supply-chain.md").read_text(encoding="utf-8")
    told = {
        f"{file} {code}" for file, code in re.findall(r"^\| `(ivr_agi/\S+)` \| (S\d+)", page, re.MULTILINE)
    }
    assert told == silenced


def test_reports_go_to_one_place():
    """SECURITY.md tells the private way, asks for no card, and gives no address that nobody reads."""
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "private vulnerability reporting" in page
    assert "Never send a card number" in page
    assert not re.search(r"[\w.]+@[\w-]+\.\w+|mailto:", page)
