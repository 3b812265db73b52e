"""Every setting, its default and what is allowed: `IVR_AGI_…` in the environment, or a `.env` file.

Read once, by `cli.py`. `.env.example` is held to this file by a test.
"""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ivr_agi.limits import Limit, Limits, Scope, read_limits

PREFIX = "IVR_AGI_"
KEY_LENGTH = 32  # characters; a card's hash under a weak key can be guessed from its mask
SAFE = r"[A-Za-z0-9._~-]{16,128}"  # needs no quoting, neither in an address nor in a dialplan
Network = IPv4Network | IPv6Network
LimitList = Annotated[tuple[Limit, ...], NoDecode]


class WrongSettings(Exception):  # noqa: N818 - named for what it is
    """The settings cannot be used; the message has a line for each that is wrong."""


class Settings(BaseSettings):
    """The settings of one process. Seconds and rials are whole numbers unless said otherwise."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    # The door
    host: str = Field("127.0.0.1", description="address that the FastAGI server listens on")
    port: int = Field(4573, ge=0, le=65535, description="its TCP port; 0 takes a free one")
    allowed_peers: Annotated[tuple[Network, ...], NoDecode] = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1")),
        description="networks that may connect, separated by commas",
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="a secret of 16 characters or more that must stand in the agi:// address as token=…; old"
        " and new, separated by a comma, while it changes; empty: none is asked for",
    )
    workers: int = Field(
        0,
        ge=0,
        le=64,
        description="processes that take calls, about one for each core, under one that watches over them;"
        " 0: one process does all",
    )
    max_calls: int = Field(200, ge=1, description="calls at once; one more is closed at once")
    max_calls_per_peer: int = Field(
        0, ge=0, description="calls at once from one address (one Asterisk); 0: as many as MAX_CALLS"
    )
    max_calls_per_caller: int = Field(
        0, ge=0, description="calls at once from one caller ID; 0: half of MAX_CALLS, and at least 100"
    )
    call_limit: int = Field(
        900, ge=60, le=7200, description="seconds after which a call is brought to its end"
    )
    drain_limit: int = Field(300, ge=0, description="seconds that SIGTERM leaves to calls under way")

    # The gateway
    gateway_plain: bool = Field(
        default=False,
        description="http to a simulator on a private network; its name has no dot, or is a private address",
    )
    gateway_url: str = Field(
        "https://core.paystar.ir/api/ivr/bpm", description="base address of PayStar's telephone gateway"
    )
    sequence: SecretStr = Field(
        SecretStr(""), description="the telephone gateway's identifier in PayStar's panel: a secret"
    )
    otp_timeout: float = Field(20, gt=0, le=120, description="seconds for `otp-v2`")
    pay_timeout: float = Field(60, gt=0, le=300, description="seconds for `pay`; then its outcome is unknown")

    late_limit: float = Field(
        300,
        ge=0,
        le=3600,
        description="seconds beyond PAY_TIMEOUT in which a late answer still counts",
    )

    # The journal
    journal_url: str = Field("sqlite:///ivr-agi.db", description="SQLAlchemy address of the journal")
    card_keys: SecretStr = Field(
        SecretStr(""),
        description="keys of the card hashes, separated by commas, each of 32 characters or more; the first"
        " writes; empty: none is kept",
    )

    # Against abuse: `10/hour`, or `5 declines/day, 3 cards/day`, see docs/security.md; empty: no limit
    limit_caller: LimitList = Field(
        read_limits("100 failures/hour", Scope.CALLER), description="what one caller may do"
    )
    limit_card: LimitList = Field(
        read_limits("30 failures/hour", Scope.CARD), description="what may be done with one card"
    )
    limit_order: LimitList = Field(
        read_limits("30 failures/hour", Scope.ORDER), description="what may be done for one order"
    )
    limit_total: LimitList = Field(
        read_limits("1000 failures/hour", Scope.TOTAL), description="what may be done by all together"
    )
    declines_explained: int = Field(
        0,
        ge=0,
        description="declines of one caller, or one card, within a day whose reason is told; from then on one"
        " general sentence, and the call ends; 0: all of them",
    )

    # The merchant's orders
    orders_url: str = Field(
        "", description="the merchant's endpoint for `order_id=ask`, see docs/orders.md; empty: none"
    )
    orders_secret: SecretStr = Field(
        SecretStr(""),
        description="signs the requests to it: a secret; old and new, separated by a comma, while it changes",
    )
    orders_timeout: float = Field(5, gt=0, le=30, description="seconds for a look-up there")
    # Fewer than a card has, so that a card keyed by mistake is no invoice and goes nowhere.
    invoice_digits: int = Field(12, ge=1, le=15, description="most digits of an invoice number")

    # Telling the merchant
    webhook_url: str = Field(
        "", description="the merchant's endpoint for each payment's outcome, see docs/webhook.md; empty: none"
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="signs what it is told: a secret; old and new, separated by a comma, while it changes",
    )
    webhook_days: float = Field(
        3, gt=0, le=30, description="days after which what it does not take is given up"
    )

    # The call
    language: Literal["fa", "en", "ask"] = Field("fa", description="language of the prompts, or ask")
    persian_code: str = Field(
        "fa",
        pattern=r"^[A-Za-z]{2,8}([_-][A-Za-z0-9]{2,8})*$",
        description="Asterisk's name for Persian: CHANNEL(language), and its folder of sounds; some have pr",
    )
    tries: int = Field(3, ge=1, le=9, description="tries at each question")
    max_unanswered: int = Field(
        9, ge=1, le=99, description="times in one call that nothing valid is keyed, at all questions together"
    )
    digit_timeout: float = Field(8, ge=1, le=60, description="seconds of silence that end an answer")
    pin_min: int = Field(5, ge=5, le=12, description="fewest digits of a one-time PIN")
    pin_max: int = Field(12, ge=5, le=12, description="most digits of a one-time PIN")
    otp_cooldown: float = Field(10, ge=0, le=300, description="seconds between two one-time PINs")
    max_pins: int = Field(5, ge=1, le=20, description="one-time PINs (SMS) in one call")
    max_cards: int = Field(3, ge=1, le=9, description="cards in one call")
    max_payments: int = Field(4, ge=1, le=20, description="`pay` requests in one call, each with its own PIN")
    amount_min: int = Field(1_000, ge=1, description="least amount, in rials")
    amount_max: int = Field(2_000_000_000, le=10**12, description="greatest amount, in rials")
    amount_step: int = Field(1, ge=1, le=10**12, description="amounts are whole multiples of so many rials")
    spoken_unit: Literal["rial", "toman"] = Field(
        "rial", description="unit in which amounts are read out; what does not divide by ten is said in rials"
    )
    music_class: str = Field("ivr-agi", min_length=1, description="music on hold while the bank is asked")

    # The merchant's panel, see docs/panel.md
    panel_secret: SecretStr = Field(
        SecretStr(""),
        description="signs the panel's cookies: 32 characters or more (openssl rand -hex 32); new and old,"
        " separated by a comma, while it changes; empty: there is no panel",
    )
    panel_url: str = Field(
        "",
        description="the https address by which browsers reach the panel through a reverse proxy, as"
        " https://pay.example.com; empty: on this machine only, at HTTP_PORT",
    )
    panel_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1")),
        description="networks of the reverse proxies, separated by commas: the panel answers nobody else, and"
        " believes their X-Forwarded-For",
    )
    panel_idle: int = Field(
        15, ge=1, le=720, description="minutes without a request after which one must sign in again"
    )
    merchant_name: str = Field(
        "", max_length=60, description="the shop's name, on the panel's pages and receipts"
    )

    # For the admin
    http_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address that health, metrics and the panel are served on, over HTTP",
    )
    http_port: int = Field(8573, ge=0, le=65535, description="its TCP port; 0 takes a free one")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level logged")
    log_format: Literal["console", "json"] = Field("console", description="form of a log line")

    @field_validator("allowed_peers", "panel_proxies", mode="before")
    @classmethod
    def _networks(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        networks = tuple(ip_network(part.strip()) for part in given.split(",") if part.strip())
        if not networks:
            raise ValueError("name at least one network")
        return networks

    @field_validator("limit_caller", "limit_card", "limit_order", "limit_total", mode="before")
    @classmethod
    def _limits(cls, given: Any, about: ValidationInfo) -> Any:
        scope = Scope(str(about.field_name).removeprefix("limit_"))
        return read_limits(given, scope) if isinstance(given, str) else given

    @field_validator("token")
    @classmethod
    def _safe(cls, secret: SecretStr) -> SecretStr:
        if any(not re.fullmatch(SAFE, token) for token in split_secrets(secret)):
            raise ValueError("16 characters or more of A-Z a-z 0-9 . _ ~ - (openssl rand -hex 16)")
        return secret

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, given: Any) -> Any:
        return given.upper() if isinstance(given, str) else given

    @field_validator("gateway_url", "orders_url", "webhook_url")
    @classmethod
    def _https(cls, url: str, given: ValidationInfo) -> str:
        parts = urlsplit(url)
        ours = given.field_name != "gateway_url"  # used as it stands; the gateway's has names added to it
        if ours and not url:
            return url
        near = _is_private if given.data.get("gateway_plain") else _is_loopback
        plain_and_near = parts.scheme == "http" and near(parts.hostname or "")
        if (
            (parts.query and not ours)
            or parts.fragment
            or not parts.hostname
            or not (parts.scheme == "https" or plain_and_near)
        ):
            raise ValueError(
                "an https address; http is for a simulator on this machine only, or with"
                f" {PREFIX}GATEWAY_PLAIN=yes on a private network"
            )
        return url if ours else url.rstrip("/")

    @field_validator("sequence", "orders_secret", "webhook_secret")
    @classmethod
    def _stripped(cls, secret: SecretStr) -> SecretStr:
        return SecretStr(secret.get_secret_value().strip())  # PayStar's own sample begins with a blank

    @field_validator("panel_url")
    @classmethod
    def _of_the_panel(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (
            not parts.hostname
            or parts.path.strip("/")
            or parts.query
            or parts.fragment
            or parts.username is not None
            or not (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname)))
        ):
            raise ValueError("an https address without a path, as https://pay.example.com")
        return url.rstrip("/")

    @field_validator("card_keys", "panel_secret")
    @classmethod
    def _long(cls, secret: SecretStr) -> SecretStr:
        if any(len(key) < KEY_LENGTH for key in split_secrets(secret)):
            raise ValueError(f"each key has {KEY_LENGTH} characters or more (openssl rand -hex 32)")
        return secret

    @model_validator(mode="after")
    def _signed(self) -> Self:
        if self.webhook_url and not split_secrets(self.webhook_secret):
            raise ValueError(
                f"{PREFIX}WEBHOOK_SECRET is not set: what {PREFIX}WEBHOOK_URL is told must be signed"
            )
        return self

    @field_validator("persian_code")
    @classmethod
    def _is_not_english(cls, code: str) -> str:
        if code == "en":
            raise ValueError("en is English's own name and folder")
        return code

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high in (("pin_min", "pin_max"), ("amount_min", "amount_max")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{PREFIX}{low.upper()} is greater than {PREFIX}{high.upper()}")
        if not self.amounts:
            raise ValueError(
                f"{PREFIX}AMOUNT_STEP: no multiple of it is within the least and greatest amount"
            )
        return self

    @property
    def amounts(self) -> range:
        """The rials that are taken."""
        least = -(-self.amount_min // self.amount_step) * self.amount_step
        return range(least, self.amount_max + 1, self.amount_step)

    @property
    def language_codes(self) -> dict[str, str]:
        """Our languages as this Asterisk calls them."""
        return {"fa": self.persian_code, "en": "en"}

    @property
    def limits(self) -> Limits:
        """All LIMIT_… settings together."""
        return Limits(self.limit_caller, self.limit_card, self.limit_order, self.limit_total)


SECRETS = tuple(name for name, field in Settings.model_fields.items() if field.annotation is SecretStr)


def split_secrets(secret: SecretStr) -> tuple[str, ...]:
    """The parts of a secret that is a list: the first one is in use, the others still count."""
    return tuple(part.strip() for part in secret.get_secret_value().split(",") if part.strip())


def _is_loopback(host: str) -> bool:
    return host in ("127.0.0.1", "::1", "localhost")


def _is_private(host: str) -> bool:
    """Whether a host can be no bank's: a name without a dot (a container's), or a private address."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return bool(host) and "." not in host


def load(**given: Any) -> Settings:
    """Read the settings. Raises WrongSettings naming each wrong one and what is allowed."""
    try:
        return Settings(**given)
    except ValidationError as wrong:
        lines = []
        for error in wrong.errors(include_input=False, include_url=False, include_context=False):
            name = str(error["loc"][0]).upper() if error["loc"] else ""
            field = Settings.model_fields.get(name.lower())
            about = field.description if field else ""
            lines.append(f"{PREFIX if name else ''}{name}: {error['msg']}" + (f" ({about})" if about else ""))
        raise WrongSettings("\n".join(lines)) from None


def unknown_names() -> list[str]:
    """Names in the environment that look like ours and are none: a misspelt setting does nothing."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(
        name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known
    )


def example() -> str:
    """The text of `.env.example`: each setting with its default, commented out."""
    lines = ["# Settings of ivr-agi, each with its default. Copy to .env and uncomment what differs.\n"]
    for name, field in Settings.model_fields.items():
        value = field.default
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        lines.append(f"# {field.description}\n#{PREFIX}{name.upper()}={value}\n")
    return "\n".join(lines)
