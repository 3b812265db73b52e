"""The settings: each is documented, and a wrong one stops the start with a line that names it."""

import re
from pathlib import Path

import pytest

from ivr_agi import settings
from ivr_agi.gateway import Gateway
from ivr_agi.model import Secret
from ivr_agi.request import BadRequest, read_amount
from ivr_agi.settings import Settings, WrongSettings, load

ROOT = Path(__file__).parent.parent


def test_env_example_is_in_step():
    """`.env.example` is what settings.example() says: every setting with its default."""
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == settings.example()


def test_readme_has_every_setting():
    """The README's table names each setting."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in Settings.model_fields if f"`{name.upper()}`" not in readme]
    assert not missing


def test_defaults_of_the_contract():
    """The names and defaults that users rely on."""
    found = load()
    assert (found.host, found.port, found.language) == ("127.0.0.1", 4573, "fa")
    assert found.journal_url == "sqlite:///ivr-agi.db"
    assert [str(network) for network in found.allowed_peers] == ["127.0.0.0/8", "::1/128"]
    assert found.gateway_url == "https://core.paystar.ir/api/ivr/bpm"
    assert (found.log_level, found.log_format) == ("INFO", "console")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "x"),
        ("PORT", "70000"),
        ("ALLOWED_PEERS", " "),
        ("GATEWAY_URL", "https://x/api?a=b"),
        ("CALL_LIMIT", "100000"),
        ("ALLOWED_PEERS", "10.0.0.0/33"),
        ("GATEWAY_URL", "http://core.paystar.ir/api"),
        ("GATEWAY_URL", "core.paystar.ir"),
        ("LANGUAGE", "de"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("PAY_TIMEOUT", "0"),
        ("PIN_MIN", "4"),
        ("TRIES", "0"),
        ("MAX_CALLS", "-1"),
        ("MAX_CALLS_PER_PEER", "-1"),
        ("MAX_CALLS_PER_CALLER", "x"),
        ("MAX_UNANSWERED", "0"),
        ("DECLINES_EXPLAINED", "-1"),
        ("AMOUNT_STEP", "0"),
        ("PERSIAN_CODE", "en"),
        ("PERSIAN_CODE", "../fa"),
        ("SPOKEN_UNIT", "dinar"),
    ],
)
def test_wrong_setting_is_named(monkeypatch, name, value):
    """The message names the variable, and not the value: it may be a secret in the wrong place."""
    monkeypatch.setenv(f"IVR_AGI_{name}", value)
    with pytest.raises(WrongSettings, match=f"IVR_AGI_{name}: "):
        load()


@pytest.mark.parametrize(
    "url", ["http://simulator:8088/api", "http://172.31.73.5/api", "http://[fd00::5]/api"]
)
def test_plain_http_only_on_request_and_near(monkeypatch, url):
    """A simulator in another container is reached by http, if GATEWAY_PLAIN says so."""
    monkeypatch.setenv("IVR_AGI_GATEWAY_URL", url)
    with pytest.raises(WrongSettings, match=r"IVR_AGI_GATEWAY_URL: .*IVR_AGI_GATEWAY_PLAIN"):
        load()
    monkeypatch.setenv("IVR_AGI_GATEWAY_PLAIN", "yes")
    assert load().gateway_url == url


@pytest.mark.parametrize(
    "url", ["http://core.paystar.ir/api", "http://1.1.1.1/api", "http:///api", "ftp://simulator/api"]
)
def test_plain_http_to_a_bank_never(monkeypatch, url):
    """GATEWAY_PLAIN left on by mistake sends no card unencrypted into the world."""
    monkeypatch.setenv("IVR_AGI_GATEWAY_PLAIN", "yes")
    monkeypatch.setenv("IVR_AGI_GATEWAY_URL", url)
    with pytest.raises(WrongSettings, match="IVR_AGI_GATEWAY_URL: "):
        load()


@pytest.mark.parametrize(("host", "said"), [("simulator", ["simulator"]), ("127.0.0.1", [])])
def test_plain_http_is_logged_as_an_error(logged, host, said):
    """Whoever reads the log of a line with plain http to another machine is told, at each start."""
    Gateway(f"http://{host}:8088/api", Secret("s"), otp_timeout=1, pay_timeout=1)
    told = [(line["event"], line["log_level"], line["gateway"]) for line in logged]
    assert told == [("gateway.plain", "error", name) for name in said]


def test_amount_step(monkeypatch):
    """Amounts are multiples of AMOUNT_STEP; one that leaves no amount stops the start."""
    for name, value in (("MIN", 1500), ("MAX", 10_000), ("STEP", 1000)):
        monkeypatch.setenv(f"IVR_AGI_AMOUNT_{name}", str(value))
    assert list(load().amounts) == [2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000]
    assert read_amount("3000", load().amounts) == 3000
    with pytest.raises(BadRequest, match="3500 is not within 2000 to 10000 rials in steps of 1000"):
        read_amount("3500", load().amounts)
    monkeypatch.setenv("IVR_AGI_AMOUNT_STEP", "20000")
    with pytest.raises(WrongSettings, match="IVR_AGI_AMOUNT_STEP: no multiple of it"):
        load()


@pytest.mark.parametrize("pair", [("PIN_MIN", "PIN_MAX"), ("AMOUNT_MIN", "AMOUNT_MAX")])
def test_least_above_greatest(monkeypatch, pair):
    """Bounds that cross are named, both."""
    monkeypatch.setenv(f"IVR_AGI_{pair[0]}", "9")
    monkeypatch.setenv(f"IVR_AGI_{pair[1]}", "8")
    with pytest.raises(WrongSettings, match=f"IVR_AGI_{pair[0]} is greater than IVR_AGI_{pair[1]}"):
        load()


def test_peers(monkeypatch):
    """Networks, separated by commas."""
    monkeypatch.setenv("IVR_AGI_ALLOWED_PEERS", "10.1.0.0/16, 192.0.2.7")
    assert [str(network) for network in load().allowed_peers] == ["10.1.0.0/16", "192.0.2.7/32"]


def test_dotenv(tmp_path):
    """A `.env` file in the working folder is read; what it does not know is left alone."""
    (tmp_path / ".env").write_text("IVR_AGI_PORT=5000\nOTHER=1\n", encoding="utf-8")
    assert load().port == 5000


def test_sequence_does_not_show(monkeypatch):
    """`sequence` is a secret, and loses the blank that PayStar's own sample begins with."""
    monkeypatch.setenv("IVR_AGI_SEQUENCE", " acd54b56")
    found = load()
    assert "acd54b56" not in repr(found) + str(found) + found.model_dump_json()
    assert found.sequence.get_secret_value() == "acd54b56"


def test_misspelt_setting(monkeypatch):
    """A name that looks like ours and is none is found out."""
    monkeypatch.setenv("IVR_AGI_PROT", "1")
    assert settings.unknown_names() == ["IVR_AGI_PROT"]


def test_every_setting_is_described():
    """A person can tell from .env.example what each setting does, and in which unit."""
    assert all(re.search(r"\w{3}", field.description or "") for field in Settings.model_fields.values())
