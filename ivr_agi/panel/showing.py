"""How a page is made: its words in two languages, its templates, and what each of them may use.

A sentence is `t("FILE.KEY", name=value)`, from words/FILE.toml; whatever comes from outside is escaped by
Jinja. A page never gets a card number or a PIN to show: no handler has one to give.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from starlette.responses import HTMLResponse

from ivr_agi import __version__, prompts
from ivr_agi.model import holds_card
from ivr_agi.panel import figures

if TYPE_CHECKING:
    from jinja2.runtime import Context
    from starlette.requests import Request

LANGUAGES: Final = ("fa", "en")
LANGUAGE_COOKIE: Final = "ivr-agi-language"
DIRECTION: Final = {"fa": "rtl", "en": "ltr"}
PRODUCT: Final = "ivr-agi"
PACKAGE: Final = "ivr_agi.panel"


@cache
def words() -> dict[str, dict[str, str]]:
    """Every sentence: `FILE.KEY` -> language -> text."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(resources.files(PACKAGE).joinpath("words").iterdir(), key=lambda each: each.name):
        if file.name.endswith(".toml"):
            part = file.name.removesuffix(".toml")
            for key, texts in tomllib.loads(file.read_text(encoding="utf-8")).items():
                found[f"{part}.{key}"] = texts
    return found


def say(key: str, language: str, **values: Any) -> str:
    """One sentence. Raises KeyError for one that there is not."""
    text = words()[key][language]
    return text.format(**values) if values else text


def caller_hears(names: tuple[str, ...], language: str) -> str:
    """The sentences that a caller would hear, for an operator to read."""
    return " ".join(prompts.text(name, language) for name in names)


@cache
def _versions() -> dict[str, str]:
    folder = resources.files(PACKAGE).joinpath("static")
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:10]
        for file in folder.iterdir()
        if file.is_file()
    }


def _in_language(write: Any) -> Any:
    """A filter that writes its value in the page's language."""

    @pass_context
    def filtered(context: Context, value: Any, *more: Any) -> str:
        return str(write(value, *more, context["language"]))

    return filtered


@cache
def environment() -> Environment:
    """Jinja's, with our filters."""
    made = Environment(
        loader=PackageLoader(PACKAGE, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, write in {
        "number": figures.number,
        "digits": figures.digits,
        "money": figures.money,
        "moment": figures.moment,
        "day": figures.day,
        "long_day": figures.long_day,
        "duration": figures.duration,
        "ms": figures.milliseconds,
        "mobile": figures.mobile,
    }.items():
        made.filters[name] = _in_language(write)
    made.filters["share"] = _in_language(figures.percent)  # {{ part | share(whole) }}
    return made


def cookie_name(request: Request, name: str) -> str:
    """A cookie's name: under https one that a browser takes from this very host alone, over https."""
    return f"__Host-{name}" if str(getattr(request.state, "origin", "")).startswith("https:") else name


def language_of(request: Request) -> str:
    """The page's language: what was chosen, else the panel's own."""
    chosen = request.cookies.get(cookie_name(request, LANGUAGE_COOKIE), "")
    return chosen if chosen in LANGUAGES else str(request.app.state.panel.language)


def path(request: Request, name: str, **params: Any) -> str:
    """The address of a page, as its form or link has it."""
    root = str(request.scope.get("root_path", ""))
    return root + str(request.app.router.url_path_for(name, **params))


def common(request: Request) -> dict[str, Any]:
    """What each template has besides its own values."""
    language = language_of(request)
    user = getattr(request.state, "user", None)
    panel = request.app.state.panel

    def t(key: str, **values: Any) -> str:
        return say(key, language, **values)

    def url(name: str, **params: Any) -> str:
        return path(request, name, **params)

    def asset(name: str) -> str:
        return f"{path(request, 'static', path=name)}?{_versions()[name]}"

    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method != "GET" or holds_card(unquote_plus(here)):
        here = ""
    shown = None if user is None else {"name": user.name, "role": t(f"base.role_{user.role}")}
    return {
        "t": t,
        "url": url,
        "asset": asset,
        "language": language,
        "direction": DIRECTION[language],
        "csrf": getattr(request.state, "csrf", ""),
        "user": shown,
        "may": frozenset() if user is None else panel.may(user),
        "navigation": [] if user is None else panel.navigation(request),
        "here": here,
        "merchant": panel.merchant,
        "product": PRODUCT,
        "version": __version__,
    }


def render(request: Request, template: str, **values: Any) -> str:
    """The text of a page, or of a part of one."""
    return environment().get_template(template).render(common(request) | values)


def page(request: Request, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A page, or a part of one that is swapped in."""
    return HTMLResponse(render(request, template, **values), status)
