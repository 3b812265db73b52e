"""An event loop on which time passes at once: when nothing is left to do, the clock jumps to the next deadline.

For `Wire`, which waits seconds for an Asterisk that is silent. What would wait for ever ends by Stuck.
"""

from __future__ import annotations

import asyncio
import atexit
import selectors
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Stuck(Exception):  # noqa: N818 - named for what it is
    """Nothing is left to do and no deadline is ahead."""


class _Jumping(selectors.SelectSelector):
    """Waits for nothing; tells how far the clock may jump."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise Stuck
        if not ready and timeout:
            self.passed += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed


@cache
def _loop() -> _Loop:
    loop = _Loop()
    atexit.register(loop.close)
    return loop


def run(sequence: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, and cancel what it has left; returns its result."""
    loop = _loop()
    main = loop.create_task(sequence)
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
