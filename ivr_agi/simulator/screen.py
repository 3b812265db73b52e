"""What a call looks like in a terminal: prompts as text, keys, messages, and what the dialplan was told.

Writes through `rich`, so that a pipe or a file gets plain text. It must never leave a card number or a
PIN on the screen once it has been keyed; only an SMS shows a PIN, as a phone's own screen would.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from rich import box
from rich.panel import Panel
from rich.rule import Rule as Line
from rich.table import Table
from rich.text import Text

from ivr_agi import prompts
from ivr_agi.simulator.handset import prompt_name
from ivr_agi.simulator.outcomes import mask_card

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from ivr_agi.simulator.gateway import Sms

LANGUAGES: Final = {"fa": "فارسی", "en": "English"}
NUMBERS: Final = ("numbers/", "digits/")
DOT: Final = "•"
LONG: Final = 12  # digits in a row that may be part of a card number, whatever the question
_NAME_WIDTH: Final = 18
_COLOURS: Final = {"PAID": "bold green", "UNKNOWN": "bold yellow", "OPERATOR": "cyan"}


class Kind(Enum):
    """What a question asks for, as far as the screen must care."""

    PLAIN = auto()
    CARD = auto()
    SECRET = auto()

    @classmethod
    def of(cls, prompt: str) -> Kind:
        """Judge by the prompt's name; what is keyed under a nameless silence may be a PIN."""
        if "pin" in prompt or prompt == prompts.SILENCE:
            return cls.SECRET
        return cls.CARD if "card" in prompt else cls.PLAIN

    def while_typing(self, keys: str) -> str:
        """Keys as they are typed: a card in fours, a PIN as dots."""
        if self is Kind.SECRET:
            return DOT * len(keys)
        if self is Kind.CARD:
            return " ".join(keys[place : place + 4] for place in range(0, len(keys), 4))
        return keys

    def afterwards(self, keys: str) -> str:
        """Keys as they stay on the screen."""
        masked = mask_card(keys)
        if self is Kind.CARD and masked != "***":
            return masked
        hidden = self is not Kind.PLAIN or len(keys) >= LONG
        return "".join(key if key in "*#" else DOT for key in keys) if hidden else keys


class Screen:
    """Shows one call. language: the channel's, which comes first where both are shown."""

    def __init__(self, console: Console, language: str = "fa") -> None:
        self.console = console
        self.language = language
        self._in_number = False

    def begin(self, url: str, caller_id: str) -> None:
        """Show who calls whom."""
        url = re.sub(r"token=[^&]*", "token=•••", url)
        self._print(Line(Text.assemble(caller_id or "unknown", " → ", url, style="bold cyan"), style="cyan"))

    def hint(self, text: str) -> None:
        """Show what the keys of this phone do."""
        self._print(Text(text, style="dim"))

    def prompt(self, file: str, *, question: bool = False) -> None:
        """Show a prompt in both languages; number clips in a row share a line."""
        name = prompt_name(file)
        if name == prompts.SILENCE:
            return
        if name.startswith(NUMBERS):
            self._number(name)
            return
        second = next(other for other in LANGUAGES if other != self.language)
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1)
        row.add_column(width=_NAME_WIDTH, overflow="fold")
        row.add_column(overflow="fold")
        mark = Text("?", style="bold magenta") if question else Text("▸", style="cyan")
        told = Text(wording(name, self.language) or f"[{name}]", style="bold" if question else "")
        other = wording(name, second)
        row.add_row(mark, Text(name, style="cyan"), told)
        if other and other != told.plain:
            row.add_row("", "", Text(other, style="dim"))
        self._print(row)

    def keyed(self, keys: str, kind: Kind) -> None:
        """Show what was keyed, masked."""
        shown = Text(kind.afterwards(keys), style="bold green") if keys else Text("—", style="dim")
        self._print(Text.assemble(" " * (_NAME_WIDTH + 3), "⌨ ", shown))

    def typing(self, keys: str, kind: Kind, seconds_left: float) -> Text:
        """Return the line that shows keys as they are typed and the time that is left."""
        typed = (kind.while_typing(keys), "bold green")
        left = (f"{seconds_left:.0f} s", "dim")
        return Text.assemble(" " * (_NAME_WIDTH + 3), "⌨ ", typed, ("▏", "green"), "   ", left)

    def observe(self, command: Sequence[str]) -> None:
        """Show music and a change of language."""
        match [word.upper() for word in command[:3]]:
            case ["SET", "MUSIC", on_off]:
                self._note("♪ music on hold" if on_off == "ON" else "♪ off")
            case ["SET", "VARIABLE", "CHANNEL(LANGUAGE)"] if command[3:]:
                language = "en" if command[3] == "en" else "fa"  # whatever Asterisk calls it
                if self.language != language:
                    self.language = language
                    self._note(f"language: {LANGUAGES[self.language]}")

    def sms(self, sms: Sms) -> None:
        """Show a message as a phone does."""
        at = f"{sms.at.astimezone():%H:%M}"
        self._print(
            Panel(
                Text(sms.text),
                title=Text(f"SMS  {at}", style="bold"),
                title_align="left",
                box=box.ROUNDED,
                border_style="yellow",
                width=44,
            )
        )

    def hung_up(self) -> None:
        """Show that the caller has gone."""
        self._note("✕ hung up", "bold red")

    def end(self, variables: Mapping[str, str]) -> None:
        """Show the channel's variables, as the dialplan finds them."""
        table = Table(
            box=box.SIMPLE_HEAD, title="told to the dialplan", title_justify="left", title_style="bold"
        )
        table.add_column("variable", style="cyan", no_wrap=True)
        table.add_column("value", overflow="fold")
        for name, value in variables.items():
            colour = _COLOURS.get(value, "bold red") if name == "PAYSTATUS" else ""
            table.add_row(Text(name), Text(value, style=colour))
        self._print(table if variables else Text("nothing was told to the dialplan", style="bold red"))

    def _number(self, name: str) -> None:
        clip = wording(name, self.language) or name.partition("/")[2]
        lead = "" if self._in_number else f"▸ {'numbers':{_NAME_WIDTH}} "
        self._in_number = True
        self.console.print(Text.assemble((lead, "cyan"), clip), end=" ", soft_wrap=True)

    def _note(self, text: str, style: str = "blue") -> None:
        self._print(Text(" " * (_NAME_WIDTH + 3) + text, style=style))

    def _print(self, shown: Line | Panel | Table | Text) -> None:
        if self._in_number:
            self.console.print()
            self._in_number = False
        self.console.print(shown)


def wording(name: str, language: str) -> str:
    """Return a prompt's words, `""` for one that the catalogue does not have in this language."""
    try:
        return prompts.text(name, language)
    except KeyError:
        return ""
