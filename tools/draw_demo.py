"""Draw a demo call as an SVG: `python tools/draw_demo.py docs/demo.svg`."""

import asyncio
import sys

from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from ivr_agi import demo, logs

logs.configure("ERROR", "console")
console = Console(record=True, width=92, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 - to the end
asyncio.run(demo.run(console, demo.HAPPY, amount="1250500", language="fa"))
# One run of Persian words must be one piece of text: a browser turns the direction within a piece only.
pieces = (Segment(text, style or Style.null(), control) for text, style, control in console._record_buffer)  # noqa: SLF001 - rich has no other way
console._record_buffer[:] = Segment.simplify(pieces)  # noqa: SLF001
console.save_svg(sys.argv[1], title="ivr-agi demo")
