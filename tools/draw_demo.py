"""Draw a demo call as an SVG: `python tools/draw_demo.py docs/demo.svg`."""

import asyncio
import sys

from rich.console import Console

from ivr_agi import demo, logs

logs.configure("ERROR", "console")
console = Console(record=True, width=92, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 - to the end
asyncio.run(demo.run(console, demo.HAPPY, amount="1250500", language="fa"))
console.save_svg(sys.argv[1], title="ivr-agi demo")
