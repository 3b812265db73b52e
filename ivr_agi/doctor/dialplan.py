"""The dialplan, read as far as it concerns paying: extensions.conf with all that it includes.

It follows jumps by the names of contexts that stand in them. A target that is computed at run time, and
a dialplan in AEL, Lua or a database, it cannot see; it says so where that matters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from ivr_agi.doctor.asterisk_conf import FALSE, TRUE
from ivr_agi.doctor.findings import Finding, error, ok, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ivr_agi.doctor.asterisk_conf import Conf, Tree

SHIPPED: Final = "ivr-agi-pay"  # the subroutine of asterisk-conf/extensions_ivr_agi.conf
WHOLE: Final = "ivr-agi"  # its context for the whole call
CONTEXTS: Final = frozenset({SHIPPED, WHOLE})
SHOWN: Final = 5  # places of one kind that are told one by one
PORT: Final = 4573  # FastAGI's own

_STEP: Final = re.compile(
    r"\s*(?:hint|[ns\d][^,(]*)(?:\([^)]*\))?\s*,\s*(?P<app>\w+)\s*(?P<args>.*)", re.DOTALL
)
_AGI: Final = re.compile(
    r"(?<!\w)(?:E|Dead)?AGI\(\s*\"?(?:(?P<ours>\$\{IVR_AGI_URL\})"
    r"|h?agi://(?P<host>\[[^\]]*\]|[^/:,?)\s]+)(?::(?P<port>\d+))?(?P<pay>/pay\b)?)",
    re.IGNORECASE,
)
_JUMP: Final = re.compile(
    r"(?<!\w)(?:Goto|Gosub|Macro|GotoIf|GosubIf|GotoIfTime|ExecIf|Dial)\(", re.IGNORECASE
)
_CALL: Final = re.compile(r"(?<!\w)(?:Gosub|GosubIf|Macro)\(", re.IGNORECASE)
_BRANCH: Final = re.compile(
    r"(?<!\w)(?:Goto|GotoIf|Gosub|GosubIf|ExecIf|While)\(.*\$\{AGISTATUS\}", re.IGNORECASE
)
_CLEARED: Final = re.compile(r"(?<!\w)M?Set\((?:.*,)?\s*_{0,2}PAYSTATUS=(?!PAID)", re.IGNORECASE)
_SWITCH: Final = r"(?<!\w)_{0,2}%s\s*=\s*\"?(?P<value>\w*)"
_READ: Final = re.compile(r"(?<![\w])Read\((?P<args>[^()]*)", re.IGNORECASE)
_CARD_OR_PIN: Final = re.compile(
    r"(?<!dis)card|kart|ramz|(?<![a-z])(?:pan|pin|otp|cvv2?)(?:code|no|number)?(?![a-z])", re.IGNORECASE
)
_OTHER_PINS: Final = re.compile(r"(?:^|,)\s*(?:enter-)?(?:conf|vm|agent|auth|disa)-", re.IGNORECASE)
_CARD_DIGITS: Final = "16"
_RECORDERS: Final = (("MixMonitor", "StopMixMonitor"), ("Monitor", "StopMonitor"))


@dataclass(frozen=True, slots=True)
class Step:
    """One priority of an extension."""

    app: str
    text: str  # the application with its arguments
    where: str

    def calls(self, app: str) -> bool:
        """Whether the application is called, here or inside TryExec, ExecIf and the like."""
        return re.search(rf"(?<!\w){app}\(", self.text, re.IGNORECASE) is not None


@dataclass(slots=True)
class Dialplan:
    """Contexts, each with its extensions and their steps, in order."""

    contexts: dict[str, dict[str, list[Step]]] = field(default_factory=dict)
    included: dict[str, set[str]] = field(default_factory=dict)

    def extensions(self) -> Iterator[tuple[str, str, list[Step]]]:
        """Every extension: its context, its name and its steps."""
        for context, extensions in self.contexts.items():
            for name, steps in extensions.items():
                yield context, name, steps

    def steps(self) -> Iterator[Step]:
        """Every step of the dialplan."""
        for _, _, steps in self.extensions():
            yield from steps

    def targets(self, step: Step) -> set[str]:
        """The contexts that a step may jump to."""
        if not _JUMP.search(step.text):
            return set()
        words = set(re.split(r"[^\w.-]+", step.text))
        words |= {f"macro-{word}" for word in words}
        return words & self.contexts.keys()

    def closure(self, begun: Callable[[Step], bool], ended: Callable[[Step], bool]) -> set[str]:
        """The contexts that come to a step `begun`, by themselves or by jumps, before one `ended`."""
        reached: set[str] = set()
        comes_from: dict[str, set[str]] = {}
        for context, others in self.included.items():
            for other in others:
                comes_from.setdefault(other, set()).add(context)
        for context, _, steps in self.extensions():
            for step in _before(steps, ended):
                if begun(step):
                    reached.add(context)
                for target in self.targets(step):
                    comes_from.setdefault(target, set()).add(context)
        todo = list(reached)
        while todo:
            more = comes_from.get(todo.pop(), set()) - reached
            reached |= more
            todo += more
        return reached


def _before(steps: list[Step], ended: Callable[[Step], bool]) -> Iterator[Step]:
    for step in steps:
        if ended(step):
            return
        yield step


def parse(conf: Conf) -> Dialplan:
    """Read the contexts of extensions.conf."""
    plan = Dialplan()
    for section in conf.sections:
        if section.template or section.name.casefold() in ("general", "globals"):
            continue
        context = plan.contexts.setdefault(section.name, {})
        name = ""
        for line in section.values:
            rest = line.value
            match line.name.casefold():
                case "include":
                    plan.included.setdefault(section.name, set()).add(rest.split(",")[0].strip())
                    continue
                case "exten":
                    name, _, rest = rest.partition(",")
                case "same":
                    pass
                case _:
                    continue
            if found := _STEP.match(rest):
                step = Step(found["app"], found["app"] + found["args"], line.where)
                context.setdefault(name.strip(), []).append(step)
    return plan


class Paying:
    """What the dialplan does about paying. port: the one that our server listens on."""

    def __init__(self, tree: Tree, port: int) -> None:
        self._tree = tree
        self._port = port
        self._conf = tree.read("extensions.conf")
        self._plan = parse(self._conf)

    def findings(self) -> Iterator[Finding]:
        """All that there is to say of the dialplan."""
        yield from self._way_in()
        asking = {context for context, _, steps in self._plan.extensions() if any(map(self._asks, steps))}
        for context, name, steps in self._plan.extensions():
            yield from self._around_agi(steps, asked=name == "h" and context in asking)
        yield from self._switches()
        yield from self._reads()
        yield from self._recordings()

    def _pays(self, step: Step) -> bool:
        found = _AGI.search(step.text)
        if not found:
            return False
        if not found["port"]:  # FastAGI's own port: whose server it is the path tells
            return bool(found["ours"] or found["pay"])
        return int(found["port"]) in (PORT, self._port)

    def _asks(self, step: Step) -> bool:
        """Whether a step pays, by itself or by our subroutine."""
        return self._pays(step) or SHIPPED in self._plan.targets(step)

    @cached_property
    def _lines(self) -> list[Step]:
        return list(filter(self._pays, self._plan.steps()))

    def _way_in(self) -> Iterator[Finding]:
        """Whether a call can come to the server at all, and to the port that it listens on."""
        if not self._lines:
            yield self._no_way_in()
        elif all(step in self._ours for step in self._lines) and not self._leads_to_ours():
            yield warning(
                f"{SHIPPED} is there, but no extension leads to it",
                self._lines[0].where,
                f"Goto({WHOLE},s,1) or Gosub({SHIPPED},s,1(AMOUNT,ORDER)) in the extension that callers dial",
            )
        else:
            yield ok("the dialplan leads to ivr-agi", self._lines[0].where)
        address = self._conf.last("globals", "IVR_AGI_URL")
        for step in self._lines:
            found = _AGI.search(step.text)
            place, port = step.where, (found and found["port"]) or PORT
            if found and found["ours"] and address:
                told = re.search(r"agi://(?:\[[^\]]*\]|[^/:]+):(\d+)", address.value)
                place, port = address.where, told[1] if told else PORT
            if self._port and int(port) != self._port:
                yield warning(
                    f"the dialplan calls port {port}, the server listens on {self._port}",
                    place,
                    f"agi://…:{self._port}/pay, there or in the global IVR_AGI_URL; or IVR_AGI_PORT={port}",
                )

    def _no_way_in(self) -> Finding:
        unseen = [problem.where for problem in self._conf.problems if "#exec" in problem.what]
        unseen += [
            line.where
            for section in self._conf.sections
            for line in section.values
            if line.name.casefold() == "switch" and re.match("realtime|lua", line.value, re.IGNORECASE)
        ]
        unseen += [
            str(path)
            for path in (self._tree.etc / "extensions.ael", self._tree.etc / "extensions.lua")
            if path.is_file() and "agi://" in path.read_text(encoding="utf-8", errors="replace")
        ]
        if unseen:
            return warning(
                "no line leads to ivr-agi, as far as can be seen: part of the dialplan is elsewhere",
                unseen[0],
                "see to it that the other part sets PAYSTATUS empty before AGI(), and stops recordings",
            )
        return error(
            "no line of the dialplan leads to ivr-agi",
            str(self._conf.path),
            "#include extensions_ivr_agi.conf (from asterisk-conf/) there, then `dialplan reload`",
        )

    @cached_property
    def _ours(self) -> list[Step]:
        """The steps of the shipped file's contexts."""
        return [
            step for context, _, steps in self._plan.extensions() if context in CONTEXTS for step in steps
        ]

    def _leads_to_ours(self) -> bool:
        for context, _, steps in self._plan.extensions():
            if context not in CONTEXTS and any(self._plan.targets(step) & CONTEXTS for step in steps):
                return True
        if any(others & CONTEXTS for name, others in self._plan.included.items() if name not in CONTEXTS):
            return True
        return any(  # a trunk or a phone whose calls begin there
            line.name.casefold().rpartition("/")[2] == "context" and line.value in CONTEXTS
            for name in ("pjsip.conf", "pjsip_wizard.conf", "sip.conf", "iax.conf", "chan_dahdi.conf")
            for section in self._tree.read(name).sections
            for line in section.values
        )

    def _around_agi(self, steps: list[Step], *, asked: bool) -> Iterator[Finding]:
        """PAYSTATUS before the AGI line, AGISTATUS after it. asked: the server has been already."""
        cleared = False
        for step in steps:
            cleared = cleared or _CLEARED.search(step.text) is not None
            if asked and _BRANCH.search(step.text):
                yield warning(
                    "a step branches on AGISTATUS: it is SUCCESS for a server killed in mid-call,"
                    " and FAILURE for a paid call with one sound file missing",
                    step.where,
                    "branch on PAYSTATUS; empty means lost, the card may have been charged",
                )
            asked = asked or self._asks(step)
            if self._pays(step) and not cleared:
                yield error(
                    "PAYSTATUS is not emptied before AGI(): if the server is lost, an old PAID counts",
                    step.where,
                    "Set(PAYSTATUS=) in the same extension before it; an empty one means `maybe charged`",
                )

    def _switches(self) -> Iterator[Finding]:
        """AGIEXITONHANGUP and AGISIGHUP, wherever they are set."""
        lines = [(step.text, step.where) for step in self._plan.steps()]
        lines += [(f"{v.name}={v.value}", v.where) for v in self._conf.values("globals")]
        for name in ("pjsip.conf", "sip.conf"):
            for section in self._tree.read(name).sections:
                lines += [
                    (v.value, v.where) for v in section.values if v.name.casefold() in ("set_var", "setvar")
                ]
        for text, where in dict.fromkeys(lines):
            found = re.search(_SWITCH % "AGIEXITONHANGUP", text)
            if found and found["value"].casefold() in TRUE:
                yield error(
                    "AGIEXITONHANGUP is on: a hang-up cuts the server off in the middle of a payment",
                    where,
                    "take it out; unset is right",
                )
            found = re.search(_SWITCH % "AGISIGHUP", text)
            if found and found["value"].casefold() in FALSE:
                yield warning(
                    "AGISIGHUP is off: the server learns late that the caller has gone, and may still charge",
                    where,
                    "take it out; unset is right",
                )

    def _reads(self) -> Iterator[Finding]:
        """Read() writes what it gets into the log and leaves it in a variable."""
        for step in self._plan.steps():
            for found in _READ.finditer(step.text):
                asked = ",".join(found["args"].split(",")[:2])
                most = [*found["args"].split(","), "", ""][2].strip()
                if _OTHER_PINS.search(asked) or not (_CARD_OR_PIN.search(asked) or most == _CARD_DIGITS):
                    continue
                yield warning(
                    "Read() seems to ask for a card or a PIN: it logs what is keyed, and keeps it",
                    step.where,
                    "leave these questions to ivr-agi",
                )

    def _recordings(self) -> Iterator[Finding]:
        """A recording of the tones is a recording of card and PIN."""
        for recorder, stopper in _RECORDERS:
            yield from self._recorder(recorder, stopper)
        for step in self._plan.steps():
            if step.calls("(?:Chan|Exten)Spy"):
                yield warning(
                    "who may dial this can listen in while a caller keys card and PIN",
                    step.where,
                    "limit it to channels that do not pay: option g(GROUP) and SPYGROUP",
                )

    def _recorder(self, recorder: str, stopper: str) -> Iterator[Finding]:
        plan = self._plan
        unstopped = plan.closure(self._pays, lambda step: step.calls(stopper))
        begins = plan.closure(lambda step: step.calls(recorder), lambda _step: False)
        places: dict[str, None] = {}
        for _, _, steps in plan.extensions():
            recording: Step | None = None
            for step in steps:
                if step.calls(stopper):
                    recording = None
                elif step.calls(recorder):
                    recording = step
                    continue
                elif not recording and _CALL.search(step.text) and plan.targets(step) & begins:
                    recording = step
                if recording and (self._pays(step) or plan.targets(step) & unstopped):
                    places[recording.where] = None
        found = list(places)
        if len(found) > SHOWN:  # a macro of FreePBX's is called by every extension
            more = f"; here, and in {len(found) - 1} more places"
            found = found[:1]
        else:
            more = ""
        for where in found:
            yield warning(
                f"{recorder}() begins a recording that goes on while the caller keys card and PIN{more}",
                where,
                f"{stopper}() before AGI(), or Gosub({SHIPPED},…), which does that for MixMonitor",
            )
