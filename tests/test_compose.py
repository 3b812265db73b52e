"""The files for containers: what they name exists, FastAGI is not published, nothing runs as root, no secret is in them.

No Docker engine is needed. Where `docker compose` or `hadolint` is installed, they have their say, too.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml
from debian import program
from typer.testing import CliRunner

from ivr_agi.cli import app
from ivr_agi.hardening import CORE_BYTES
from ivr_agi.settings import PREFIX, Settings, load

ROOT = Path(__file__).parent.parent
CONF = ROOT / "asterisk-conf/compose"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service.get("image") == "ivr-agi:local"]
# What the dialplan asks of its own variables: they look like settings and are none.
DIALPLAN = set(
    re.findall(r"\$\{(IVR_AGI_\w+)\}", (CONF.parent / "extensions_ivr_agi.conf").read_text(encoding="utf-8"))
)
SECRET = re.compile(r"password|secret|token|sequence|credential", re.IGNORECASE)


def instructions(name):
    """The instructions of a Dockerfile, in order: [("FROM", "python:…"), …]."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]


def the(name, instruction):
    """The last one of an instruction, which is the one that counts."""
    return [argument for found, argument in instructions(name) if found == instruction][-1]


def copied(name):
    """What a Dockerfile takes from the build context."""
    arguments = [argument.split() for found, argument in instructions(name) if found == "COPY"]
    return [source for words in arguments if not words[0].startswith("--from") for source in words[:-1]]


def conf(name, key):
    """An option of a file in asterisk-conf/compose."""
    (value,) = re.findall(rf"^{key} *=>? *([^;\s]+)", (CONF / name).read_text(encoding="utf-8"), re.MULTILINE)
    return value


def environment(service):
    """A service's environment as compose makes it where `.env` sets nothing."""
    given = SERVICES[service].get("environment", {})
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)) for name, value in given.items()}


def test_fastagi_is_not_published():
    """Only SIP and RTP are; FastAGI is on a network that leads nowhere and has nobody else on it."""
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["asterisk"]
    assert all(
        re.fullmatch(r"\$\{SIP_ADDRESS:-0\.0\.0\.0\}:[\d-]+:[\d-]+/udp", p)
        for p in SERVICES["asterisk"]["ports"]
    )
    assert not any(service.get("network_mode") == "host" for service in SERVICES.values())
    assert COMPOSE["networks"]["agi"]["internal"] is True
    assert [name for name, service in SERVICES.items() if "agi" in service.get("networks", [])] == [
        "asterisk",
        "ivr-agi",
    ]
    shared = set(SERVICES["asterisk"]["networks"]) & set(SERVICES["ivr-agi"]["networks"])
    assert shared == {"agi"}, "on another one a stranger might reach FastAGI"


def test_only_asterisk_may_connect():
    """The server lets the network `agi` in, and nobody else; no two networks overlap."""
    (subnet,) = (part["subnet"] for part in COMPOSE["networks"]["agi"]["ipam"]["config"])
    assert environment("ivr-agi")["IVR_AGI_ALLOWED_PEERS"] == subnet
    (trunk,) = (part["subnet"] for part in COMPOSE["networks"]["trunk"]["ipam"]["config"])
    assert not ip_network(trunk).overlaps(ip_network(subnet))
    (near,) = re.findall(r"^local_net = (\S+)", (CONF / "pjsip_trunk.conf.example").read_text(), re.MULTILINE)
    assert all(ip_network(one).subnet_of(ip_network(near)) for one in (subnet, trunk))


def test_ports_agree():
    """What is published, exposed and configured is the same; each call that the server takes has its two RTP ports."""
    first, last = int(conf("rtp.conf", "rtpstart")), int(conf("rtp.conf", "rtpend"))
    sip = conf("pjsip.conf", "bind").rpartition(":")[2]
    published = [port.partition("}:")[2] for port in SERVICES["asterisk"]["ports"]]
    assert published == [f"{sip}:{sip}/udp", f"{first}-{last}:{first}-{last}/udp"]
    assert the("Dockerfile.asterisk", "EXPOSE") == f"{sip}/udp {first}-{last}/udp"
    assert 2 * int(environment("ivr-agi")["IVR_AGI_MAX_CALLS"]) <= last - first + 1

    server = environment("ivr-agi")
    assert conf("extensions.conf", "IVR_AGI_URL") == f"agi://ivr-agi:{server['IVR_AGI_PORT']}/pay"
    assert the("Dockerfile", "EXPOSE") == f"{server['IVR_AGI_PORT']} {server['IVR_AGI_HTTP_PORT']}"
    assert f"IVR_AGI_HTTP_PORT={server['IVR_AGI_HTTP_PORT']}" in the("Dockerfile", "ENV")
    assert Settings.model_fields["port"].default == int(server["IVR_AGI_PORT"])
    assert Settings.model_fields["http_port"].default == int(server["IVR_AGI_HTTP_PORT"])
    simulator = SERVICES["simulator"]
    assert f"('127.0.0.1', {simulator['command'][-1]})" in simulator["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", SERVICES)
def test_hardened(name):
    """Not root, a read-only root file system, no capability, no way to gain one."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_limited(name):
    """Processes and memory have their limits; nothing of the memory goes to a swap file or into a core dump."""
    service = SERVICES[name]
    assert 0 < service["pids_limit"] <= 256
    assert re.fullmatch(r"(256|512)m|1g", service["mem_limit"])
    assert service["memswap_limit"] == service["mem_limit"], "more of it would be swap"
    # as the program itself: 0 would not stop a dump that the host pipes to a program
    assert service["ulimits"]["core"] == {"soft": CORE_BYTES, "hard": CORE_BYTES}
    for mount in service.get("tmpfs", []):
        assert re.search(r"[:,]size=\d+m$", mount), "files in memory count as memory"


@pytest.mark.parametrize("name", SERVICES)
def test_whoever_runs_on_is_looked_after(name):
    """A service that goes on has a health check, of its own or its image's; one that ends has none."""
    service = SERVICES[name]
    built = service.get("build", {}).get("dockerfile", "Dockerfile") if "build" in service else None
    found = service.get("healthcheck") or {
        "test": [argument for kind, argument in instructions(built) if kind == "HEALTHCHECK"]
    }
    assert bool(found.get("test")) is (service["restart"] != "no")
    assert bool(found.get("disable")) is (service["restart"] == "no")


def test_images_are_not_root_either():
    """Whoever runs an image without the compose file is not root, and it is the same user."""
    assert all(SERVICES[name]["user"] == the("Dockerfile", "USER") for name in OURS)
    assert SERVICES["asterisk"]["user"] == the("Dockerfile.asterisk", "USER")


def test_what_is_written_has_a_place():
    """Each folder that Asterisk or the server writes to is in memory or a volume; the rest is read-only."""
    in_memory = dict(mount.split(":", 1) for mount in SERVICES["asterisk"]["tmpfs"])
    written = {
        conf("asterisk.conf", f"ast{kind}dir")
        for kind in ("varlib", "db", "key", "spool", "run", "log", "cache")
    }
    assert written | {"/tmp"} == set(in_memory)  # noqa: S108 - its place in the container
    uid, gid = SERVICES["asterisk"]["user"].split(":")
    assert all(in_memory[folder].startswith(f"uid={uid},gid={gid},") for folder in written)

    (journal,) = SERVICES["ivr-agi"]["volumes"]
    assert environment("ivr-agi")["IVR_AGI_JOURNAL_URL"].startswith(f"sqlite:///{journal['target']}/")
    assert the("Dockerfile", "WORKDIR") == journal["target"]
    assert f"--mode=0700 {journal['target']}" in " ".join(
        argument for _, argument in instructions("Dockerfile")
    )


def test_sounds_come_where_asterisk_looks():
    """The volume that `sounds` fills is the one that Asterisk's links lead into, and Asterisk cannot write to it."""
    (filled,), (read,) = SERVICES["sounds"]["volumes"], SERVICES["asterisk"]["volumes"]
    assert (filled["source"], filled["target"]) == (read["source"], read["target"])
    assert read["read_only"] is True
    *_, folder = SERVICES["sounds"]["command"]
    links = dict(re.findall(r"ln -s (/srv\S+) (\S+)", (ROOT / "Dockerfile.asterisk").read_text()))
    shares = conf("asterisk.conf", "astdatadir")
    assert links == {
        f"{folder}/fa/ivr-agi": f"{shares}/sounds/fa/ivr-agi",
        f"{folder}/en/ivr-agi": f"{shares}/sounds/en/ivr-agi",
        f"{filled['target']}/moh/ivr-agi": f"{shares}/moh/ivr-agi",  # beside a folder called `sounds`
    }
    assert SERVICES["asterisk"]["depends_on"]["sounds"]["condition"] == "service_completed_successfully"


def test_settings_exist(monkeypatch):
    """The server's environment is one that it starts with, and each name in these files is a setting."""
    for name, value in environment("ivr-agi").items():
        monkeypatch.setenv(name, value)
    assert str(load().allowed_peers[0]) == environment("ivr-agi")["IVR_AGI_ALLOWED_PEERS"]
    known = {PREFIX + name.upper() for name in Settings.model_fields} | DIALPLAN
    files = [
        ROOT / "docker-compose.yml",
        ROOT / "Dockerfile",
        *CONF.iterdir(),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "README.md",
    ]
    for file in files:
        named = set(re.findall(r"\bIVR_AGI_[A-Z_]+[A-Z]\b", file.read_text(encoding="utf-8")))
        assert named <= known, file.name


def test_simulator_is_reached_only_on_purpose(monkeypatch):
    """Without a word in `.env` the gateway is the real one, over https; with the documented words, the simulator."""
    assert not any("GATEWAY" in name for name in environment("ivr-agi"))
    told = (ROOT / "docs/docker.md").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^ +(IVR_AGI_GATEWAY_\w+)=(\S+)$", told, re.MULTILINE))
    assert lines["IVR_AGI_GATEWAY_URL"].startswith(
        f"http://simulator:{SERVICES['simulator']['command'][-1]}/"
    )
    for name, value in lines.items():
        monkeypatch.setenv(name, value)
    assert load().gateway_url == lines["IVR_AGI_GATEWAY_URL"]
    assert SERVICES["simulator"]["networks"] == ["bank"]
    assert COMPOSE["networks"]["bank"]["internal"] is True


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name):
    """What a container runs is a command of ours, with options that it has."""
    assert json.loads(the("Dockerfile", "ENTRYPOINT")) == ["ivr-agi"]
    command = SERVICES[name].get("command") or json.loads(the("Dockerfile", "CMD"))
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0, done.output


def test_files_exist():
    """Each file that a Dockerfile takes or the compose file names is there, and is not kept from the build."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    admitted = {line[1:] for line in ignored if line.startswith("!")}
    for name in ("Dockerfile", "Dockerfile.asterisk"):
        for source in copied(name):
            assert list(ROOT.glob(source)), source
            assert source.split("/")[0] in admitted, source
    assert {
        service["build"].get("dockerfile", "Dockerfile")
        for service in SERVICES.values()
        if "build" in service
    } == {
        "Dockerfile",
        "Dockerfile.asterisk",
    }
    for conf_file in (*CONF.glob("*.conf"), CONF / "pjsip_trunk.conf.example"):
        for included in re.findall(
            r"^#(?:try)?include (\S+)", conf_file.read_text(encoding="utf-8"), re.MULTILINE
        ):
            secret = included.removeprefix("/run/secrets/")
            assert secret in COMPOSE["secrets"] or (ROOT / "asterisk-conf" / included).is_file(), included


def test_wheel_finds_its_parts():
    """All that the wheel is built from is copied into the build stage."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        *wheel["packages"],
        *wheel["force-include"],
        project["project"]["readme"],
        *project["project"]["license-files"],
    }
    locks = {"requirements.lock", "requirements-build.lock"}  # test_supply_chain.py says what they are for
    assert needed | locks | {"pyproject.toml"} == set(copied("Dockerfile"))


def test_no_secret_in_them():
    """Passwords and `sequence` come from `.env` and secrets/, which neither git nor the build context holds."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            secret = SECRET.search(variable)
            assert not secret or variable.endswith("_FILE") or str(value).startswith("${"), (name, variable)
    for name in ("Dockerfile", "Dockerfile.asterisk"):
        given = [argument for found, argument in instructions(name) if found in ("ARG", "ENV")]
        assert not SECRET.search(" ".join(given)), name
    for name, service in SERVICES.items():
        assert not set(service.get("build", {})) - {"context", "dockerfile"}, (
            f"{name}: arguments stay in the image"
        )
    for file in CONF.iterdir():
        values = re.findall(
            r"^(?:password|secret|md5_cred)\s*=\s*(.+)$", file.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert all(re.fullmatch(r"<[^>]+>", value) for value in values), file.name
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert {".env", "secrets/"} <= set((ROOT / ".gitignore").read_text(encoding="utf-8").splitlines())
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert next(line for line in ignored if line and not line.startswith("#")) == "*"


def test_stopping_waits_for_payments():
    """SIGTERM, and no SIGKILL before the drain and the last `pay` are over."""
    assert the("Dockerfile", "STOPSIGNAL") == "SIGTERM"
    grace = int(SERVICES["ivr-agi"]["stop_grace_period"].removesuffix("s"))
    found = load()
    assert grace >= found.drain_limit + found.pay_timeout + 10


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)])
def test_health_check_tells_well_from_ill(monkeypatch, status, exit_code):
    """The image's own health check, run against a server that is well and one that is not."""
    asked = []

    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setenv("IVR_AGI_HTTP_PORT", str(server.server_port))
        _, command = the("Dockerfile", "HEALTHCHECK").split(" CMD ", 1)
        python, *arguments = json.loads(command)
        assert python == "python"
        done = subprocess.run([sys.executable, *arguments], capture_output=True, check=False, timeout=30)
        thread.join()
    assert (asked, done.returncode) == (["/healthz"], exit_code)


def test_schema(tmp_path):
    """`docker compose config` finds nothing to object to, with each profile."""
    compose = program("docker-compose")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    shutil.copy(ROOT / ".env.example", tmp_path / ".env")
    everything = shlex.split("--profile simulator --profile postgres config --quiet")
    done = subprocess.run([compose, *everything], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.asterisk"])
def test_lint(name):
    """The linter finds nothing to object to."""
    hadolint = program("hadolint")
    done = subprocess.run([hadolint, name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
