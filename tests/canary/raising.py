"""Our own bugs, one at a time: which functions of the package a call runs through, and one that raises in each.

`sys.setprofile` notes them; `sys.settrace` raises, once, as the function is entered or as it returns, in
whatever thread runs it. Nothing of the package is changed for it.
"""

from __future__ import annotations

import dis
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import ivr_agi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

ROOT = str(Path(ivr_agi.__file__).parent)
STAND_INS = str(Path(ROOT, "simulator"))
BOUND = ("<lambda>", "<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>", "<module>")
RETURNS = {dis.opmap[name] for name in ("RETURN_VALUE", "RETURN_CONST") if name in dis.opmap}


class Bug(RuntimeError):  # noqa: N818 - named for what it is
    """What is raised."""


def ours(code: CodeType) -> bool:
    """Whether a function is one of the package's own, the stand-ins for the rest of the world left out."""
    return code.co_filename.startswith(ROOT) and not code.co_filename.startswith(STAND_INS)


def name_of(code: CodeType) -> str:
    """`agi.Wire.ask`; a lambda, by its line too."""
    module = code.co_filename.removeprefix(ROOT).removeprefix("/").removesuffix(".py").replace("/", ".")
    line = f":{code.co_firstlineno}" if code.co_name in BOUND else ""
    return f"{module.removesuffix('.__init__')}.{code.co_qualname}{line}"


@contextmanager
def recorded(shows: Callable[[str], object] = lambda _text: True) -> Iterator[dict[str, CodeType]]:
    """The functions that are run meanwhile, by name; in threads begun meanwhile, too.

    shows: which of them count, by what a careless programmer would tell of any of their calls.
    """
    found: dict[str, CodeType] = {}

    def note(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call" and ours(frame.f_code) and shows(told(frame)):
            found[name_of(frame.f_code)] = frame.f_code

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


class Saboteur:
    """Raises in one function, once. at: `entry` or `exit`. careless: the message has each argument's repr.

    armed: whether it may strike. thread: in which it has.
    """

    def __init__(self, at: str, *, careless: bool = False) -> None:
        self.code: CodeType | None = None
        self.at = at
        self.careless = careless
        self.armed = False
        self.thread: threading.Thread | None = None

    def aim(self, code: CodeType) -> None:
        """From now on, at this function; in this thread again, where it has struck."""
        self.code, self.thread, self.armed = code, None, True
        sys.settrace(self)

    def __call__(self, frame: FrameType, event: str, _arg: object):
        """The trace function of every thread."""
        if frame.f_code is not self.code or not self.armed or self.thread or event != "call":
            return None
        if self.at == "entry":
            self._strike(frame)
        frame.f_trace_lines = False
        return self._leaving

    def _leaving(self, frame: FrameType, event: str, _arg: object):
        # A coroutine that awaits "returns", too: only its end counts.
        returns = frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] in RETURNS
        if event == "return" and returns and self.armed and not self.thread:
            self._strike(frame)
        return self._leaving

    def _strike(self, frame: FrameType) -> None:
        self.thread = threading.current_thread()
        raise Bug(told(frame) if self.careless else "a bug of ours")

    @contextmanager
    def lurking(self) -> Iterator[None]:
        """In this thread, and in each that begins meanwhile."""
        before = sys.gettrace()
        threading.settrace(self)
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(before)


def told(frame: FrameType) -> str:
    """The message of a careless programmer: the function's arguments, each by repr and by str."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)  # *args, **kwargs
    names = [name for name in code.co_varnames[:count] if name in frame.f_locals]
    return "; ".join(f"{name}={_shown(frame.f_locals[name])}" for name in names)


def _shown(value: object) -> str:
    try:
        return f"{value!r} {value}"
    except Exception as error:  # noqa: BLE001 - what is only half made cannot be shown
        return type(error).__name__
