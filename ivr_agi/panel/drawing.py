"""What the charts are drawn with: a drawing that stretches while its texts do not, and texts that fit.

Nothing here knows what a chart shows. Every text from outside is escaped here and nowhere else.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TEXT: Final = 12  # CSS pixels
NARROW: Final = 280  # pixels across that a drawing has at least: a phone of 328 with a box around it
WIDE: Final = 600  # from here on the style sheet shows `wide-only` and hides `narrow-only`

_DENSE: Final = 2.5  # per cent of the width: narrower columns have no seams
_TURNING: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Drawing:
    """So many pixels high; places across are shares of what is between the margins, which are pixels.

    A share of 0 is where the chart begins: at the right if it is turned.
    """

    def __init__(
        self, height: int, language: str, before: float = 0, after: float = 0, *, mirrored: bool
    ) -> None:
        self.height, self.before, self.after = height, before, after
        self.rtl = language == "fa"
        self.turned = mirrored and self.rtl
        self.parts: list[str] = []

    def _place(self, share: float, pixels: float = 0) -> tuple[float, str]:
        """The percentage, and the attribute that shifts by the rest."""
        percentage, shift = 100 * share, self.before * (1 - share) - self.after * share + pixels
        if self.turned:
            percentage, shift = 100 - percentage, -shift
        return percentage, f' transform="translate({shift:.2f} 0)"' if abs(shift) >= 0.01 else ""  # noqa: PLR2004

    def text(  # noqa: PLR0913 - what it is, and where
        self, share: float, y: float, text: str, *,
        css: str = "tick", anchor: str = "start", pixels: float = 0,
    ) -> None:  # fmt: skip
        """anchor: as the chart runs, not as the text does."""
        if self.rtl and not self.turned:
            anchor = {"start": "end", "end": "start"}.get(anchor, anchor)
        x, shift = self._place(share, pixels)
        self._text(x, y, text, css, f'text-anchor="{anchor}"{shift}')

    def heading(self, y: float, label: str, figures: str) -> None:
        """A line of text: what it is where the line begins, how much at its end."""
        begin, end = (100, 0) if self.rtl else (0, 100)
        taken = width_of(figures) + 12
        short, full = fitting(label, NARROW - taken), fitting(label, WIDE - taken)
        if short != full:
            self._text(begin, y, short, "label narrow-only", 'text-anchor="start"')
        css = "label" if short == full else "label wide-only"
        self._text(begin, y, full, css, 'text-anchor="start"')
        self._text(end, y, figures, "figure", 'text-anchor="end"')

    def lines(self, y: float, text: str, lines: Sequence[str]) -> None:
        """A text below something: on one line, but on these where it is narrow."""
        if len(lines) <= 1:
            self.text(0, y, text)
            return
        self.text(0, y, fitting(text, WIDE), css="tick wide-only")
        for place, line in enumerate(lines):
            self.text(0, y + 16 * place, line, css="tick narrow-only")

    def _text(self, x: float, y: float, text: str, css: str, rest: str) -> None:
        if "wide-only" in css:
            rest += ' display="none"'  # until a style sheet says otherwise
        self.parts.append(f'<text x="{x:.3f}%" y="{y:.1f}" class="{css}" {rest}>{safe(text)}</text>')

    def column(  # noqa: PLR0913 - what it is, and where
        self, middle: float, slot: float, span: tuple[float, float], parts: Iterable[tuple[float, str]], *,
        tip: str, fill: float,
    ) -> None:  # fmt: skip
        """Parts (pixels high, class) one upon the other.

        slot: its share of the width; fill: how much of that is filled.
        """
        x, shift = self._place(middle)
        # On the narrowest drawing as wide as it may be, on others somewhat less: margins do not stretch.
        slot *= 100 * (NARROW - self.before - self.after) / NARROW
        width, (top, y) = slot * fill, span
        dense = ' class="dense"' if slot < _DENSE else ""
        self.parts.append(f"<g{dense}{shift}><title>{safe(tip)}</title>")
        self._rect(x - slot / 2, top, slot, y - top, 'hit" fill="none" pointer-events="all')
        for height, css in parts:
            y -= height
            self._rect(x - width / 2, y, width, height, css)
        self.parts.append("</g>")

    def bar(self, y: float, height: float, shares: Iterable[tuple[float, str]], *, tip: str) -> None:
        """Parts (share of the width, class) one after the other."""
        self.parts.append(f"<g><title>{safe(tip)}</title>")
        self._rect(0, y, 100, height, "track")
        begin = 0.0
        for share, css in seen(shares, 0.012):
            x = 1 - begin - share if self.turned else begin
            self._rect(100 * x, y, 100 * share, height, css)
            begin += share
        self.parts.append("</g>")

    def _rect(self, x: float, y: float, width: float, height: float, css: str) -> None:
        if height > 0 and width > 0:
            self.parts.append(
                f'<rect x="{x:.3f}%" y="{y:.2f}" width="{width:.3f}%" height="{height:.2f}" class="{css}"/>'
            )

    def grid_line(self, y: float, css: str = "grid-line") -> None:
        """From the first margin to the other end."""
        _, shift = self._place(0)
        self.parts.append(f'<line x1="0%" x2="100%" y1="{y:.1f}" y2="{y:.1f}" class="{css}"{shift}/>')

    def marks(self, marks: Sequence[tuple[float, str]], y: float, base: float) -> None:
        """Lines down to the base with a text each, by rising place; no line runs through another's text.

        Where all texts have room behind their lines, the first is the topmost. Else the last is, and they
        stand before their lines, or above them from the beginning on.
        """
        widths = [width_of(text) + 8 for _, text in marks]
        behind = all(
            share * NARROW + width <= NARROW for (share, _), width in zip(marks, widths, strict=True)
        )
        rows = range(len(marks)) if behind else range(len(marks) - 1, -1, -1)
        for row, (share, text), width in zip(rows, marks, widths, strict=True):
            height, room = y + 14 * row, behind or share * NARROW >= width
            x, shift = self._place(share)
            place = (
                f'x1="{x:.3f}%" x2="{x:.3f}%" y1="{height - 10 if room else height + 4:.1f}" y2="{base:.1f}"'
            )
            self.parts.append(f'<line {place} class="mark"{shift}/>')
            if behind:
                self.text(share, height, text, css="tick halo", pixels=5)
                continue
            wide_room = share * WIDE >= width
            if wide_room:
                css = "tick halo" if room else "tick halo wide-only"
                self.text(share, height, text, css=css, anchor="end", pixels=-5)
            if not room:
                css = "tick halo narrow-only" if wide_room else "tick halo"
                self.text(0, height, text, css=css, pixels=-self.before)


def chart(
    drawing: Drawing, ident: str, title: str, desc: str, legend: Sequence[tuple[str, str, str]]
) -> Markup:
    """The drawing with its words, and with a legend of (class, label, figure) if there is one."""
    name = safe(ident)
    items = "".join(
        f'<li class="{safe(css)}">{safe(label)} <b>{safe(figure)}</b></li>' for css, label, figure in legend
    )
    return Markup(  # noqa: S704 - every text in it went through `safe`
        f'<div class="chart"><svg role="img" aria-labelledby="{name}-title" aria-describedby="{name}-desc"'
        f' width="100%" height="{drawing.height}" direction="{"rtl" if drawing.rtl else "ltr"}"'
        f' font-size="{TEXT}" fill="currentColor"><title id="{name}-title">{safe(title)}</title>'
        f'<desc id="{name}-desc">{safe(desc)}</desc>{"".join(drawing.parts)}</svg>'
        + (f'<ul class="legend">{items}</ul>' if items else "")
        + "</div>"
    )


def seen(parts: Iterable[tuple[float, str]], least: float) -> list[tuple[float, str]]:
    """The parts that there are, none so small that nobody sees it; the largest one gives what they lack."""
    found = [(max(size, least), size, css) for size, css in parts if size > 0]
    lacking = sum(shown - size for shown, size, _ in found)
    largest = max((shown for shown, _, _ in found), default=0)
    sizes = []
    for shown, _, css in found:
        give = lacking if shown == largest and largest - lacking >= least else 0
        lacking -= give
        sizes.append((shown - give, css))
    return sizes


def safe(text: str) -> str:
    """Escaped, without what XML has no place for or what would turn the text around it."""
    return str(escape("".join(letter for letter in text if _allowed(letter))))


def _allowed(letter: str) -> bool:
    if unicodedata.category(letter) in ("Cc", "Cs", "Cn") or letter in _TURNING:
        return False
    return letter not in "\ufffe\uffff"


def width_of(text: str) -> float:
    """How many pixels a text takes at most, in the fonts that panels have; a guess on the safe side."""
    return sum(_letter(letter) for letter in text)


def _letter(letter: str) -> float:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    if letter in " .,:;|'()،٬٫/il":
        return TEXT * 0.4
    if unicodedata.east_asian_width(letter) in "WF" or letter in "mwMW@%٪—…":
        return TEXT * 1.05
    return TEXT * (0.8 if letter.isupper() else 0.65)


def fitting(text: str, room: float) -> str:
    """The text, or as much from its beginning as there is room for, with an ellipsis."""
    if width_of(text) <= room:
        return text
    while text and width_of(text) + width_of("…") > room:
        text = text[:-1]
    return text.rstrip() + "…"


def wrapped(parts: Sequence[str], comma: str, room: float) -> list[str]:
    """Parts of a list on as few lines as have room for them."""
    lines: list[str] = []
    for part in parts:
        if lines and width_of(lines[-1] + comma + part) <= room:
            lines[-1] += comma + part
        else:
            lines.append(part)
    return [fitting(line, room) for line in lines]
