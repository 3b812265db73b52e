"""A page looked at: whether it fits its screen, is in its language, and has a serious fault of accessibility (axe-core)."""

from __future__ import annotations

import re
from pathlib import Path

import axe_playwright_python
from panel.browser import DESK, PHONE

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
OF_THE_SCREEN = ["color-contrast", "target-size", "scrollable-region-focusable"]
# Each page on the next of these: in the other language it is a page's own opposite.
SCREENS = [(DESK, "light"), (PHONE, "dark"), (DESK, "dark"), (PHONE, "light")]
FOUND = """
async (only) => {
  const options = { resultTypes: ["violations"], preload: false, iframes: false, runOnly: only };
  const found = (await axe.run(document, options)).violations;
  return found.map((each) => [each.impact, each.id, each.nodes.map((node) => `${node.html} ${node.failureSummary}`)]);
}
"""
# Text that stands in no element which says whose language it is in: our own sentences.
OURS = """
() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const inside = node.parentElement.closest("bdi, script, noscript, [lang]:not(html), .ltr");
    if (!inside && node.textContent.trim()) texts.push(node.textContent.trim());
  }
  return texts;
}
"""
# What Persian sentences have in Latin letters: names, words of those who set the system up, and what is isolated as
# somebody else's.
LATIN = re.compile(
    r"\u2068[^\u2069]*\u2069|CSV|HTML|Excel|UTF-8|PayStar|pay|otp-v2|p50|p95|p99|PIN|dialplan|Enter|ivr-agi|user|add|journal|reconcile|MB|\b[A-Z]-?\d"
)


class Look:
    """Looks at pages, and keeps what is wrong with them."""

    def __init__(self, person):
        self.person = person
        self.wrong = []
        self.looks = 0 if person.language == "fa" else 1
        self.rules = WCAG if person.language == "fa" else OF_THE_SCREEN

    async def at(self, path):
        """Open a page and look at it on each screen."""
        await self.person.open(path)
        await self.at_this(path)

    async def at_this(self, name):
        page = self.person.page
        self.name = name
        await page.evaluate(AXE)
        head = await page.evaluate(
            "[document.documentElement.lang, document.documentElement.dir, document.title]"
        )
        language = self.person.language
        self.need(head[:2] == [language, {"fa": "rtl", "en": "ltr"}[language]], f"is {head}")
        self.need(len(head[2]) > 5, f"has the title {head[2]!r}")
        self.need(await page.locator("h1").count() == 1, "has not one heading")
        self.read(await page.evaluate(OURS))
        for size in (DESK, PHONE):
            await page.set_viewport_size(size)
            wide = await page.evaluate("document.scrollingElement.scrollWidth")
            self.need(wide <= size["width"], f"is {wide} pixels wide on {size}")
        size, scheme = SCREENS[self.looks % len(SCREENS)]
        self.looks += 1
        await page.set_viewport_size(size)
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for impact, rule, nodes in await page.evaluate(FOUND, self.rules):
            self.need(impact not in ("serious", "critical"), f"{scheme}, {size}: {rule} {nodes[:3]}")

    async def at_one(self, name):
        """Look at this one page only."""
        await self.at_this(name)
        self.is_well()

    def is_well(self):
        """Nothing was wrong."""
        assert "\n".join(self.wrong) == ""

    def read(self, texts):
        """No other language's words, and no word's name for its text."""
        for text in texts:
            self.need(not re.search(r"\b[a-z]+\.[a-z_]{3,}\b", text), f"says {text!r}")
            if self.person.language == "fa":
                self.need(not re.search(r"[A-Za-z]{2,}", LATIN.sub("", text)), f"says in English {text!r}")
                self.need(not re.search(r"[0-9]", LATIN.sub("", text)), f"has European digits in {text!r}")
            else:
                self.need(not re.search(r"[؀-ۿ]", text), f"says in Persian {text!r}")

    def need(self, holds, else_):
        if not holds:
            self.wrong.append(f"{self.name} {else_}")
