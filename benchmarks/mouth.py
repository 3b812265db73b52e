"""What a caller sends while he pays: sound all the time, and his keys as RFC 4733 events, as a recording that SIPp plays.

The keys come at fixed times, so they must come when the line listens: the times are made from the lengths of the
clips, each question answered soon after it can be. A line that falls seconds behind is keyed into too early, and the
payment fails: that is one of the signs that a limit is reached.
"""

from __future__ import annotations

import random
import struct
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PCMU: Final = 0
EVENT: Final = 101
FRAME: Final = 160  # samples, and bytes, of 20 ms
TONE_FRAMES: Final = 5  # 100 ms of key and 100 ms of none: quick fingers
PAUSE_FRAMES: Final = 5
KEYS: Final = "0123456789*#"
REFERENCE: Final = 8.0  # seconds; the twelve digits of a tracking number take 6 to 8
_ETHERNET_IPV4: Final = bytes(12) + b"\x08\x00"
_PORT: Final = 5000  # SIPp puts its own in


@dataclass(frozen=True)
class Line:
    """The clips of one language: how long they take, in seconds."""

    folder: Path

    def seconds(self, *clips: str) -> float:
        """Of some clips, one after the other."""
        total = 0.0
        for clip in clips:
            with wave.open(str(self.folder / f"{clip}.wav")) as sound:
                total += sound.getnframes() / sound.getframerate()
        return total


def payer(
    line: Line, amount: Sequence[str], card: str, pin: str, *, patient: bool
) -> list[tuple[float, str]]:
    """When he keys what, in seconds from the answer.

    patient: he hears each question to its end. Else he interrupts it as soon as it has begun: the same commands in
    two thirds of the time, so the least sound for each of them. What is keyed between two clips of a row may fall
    between two commands, where Asterisk throws it away: so he hears rows out in any case.
    """
    keyed: list[tuple[float, str]] = []
    at = 0.0
    for row, question, thinks, keys in (
        (line.seconds("welcome", "amount-is", *amount), "confirm-amount", 1.0, "1"),
        (0.0, "enter-card", 1.0, card),
        (line.seconds("please-wait"), "enter-pin", 3.0, pin + "#"),  # the SMS has to come, and be read
        (line.seconds("please-wait", "paid", "reference-is") + REFERENCE, "repeat-reference", 0.5, "2"),
    ):
        at += row + (line.seconds(question) if patient else 0.0) + thinks
        keyed.append((at, keys))
        at += len(keys) * (TONE_FRAMES + PAUSE_FRAMES) * FRAME / 8000
    return keyed


def record(file: Path, keyed: list[tuple[float, str]], seconds: float) -> None:
    """Write the recording: the sound of a room, so many seconds of it, with the keys in their places."""
    due: dict[int, str] = {}
    for at, keys in keyed:
        first = round(at * 8000 / FRAME)
        for place, key in enumerate(keys):
            due[first + place * (TONE_FRAMES + PAUSE_FRAMES)] = key
    noise = random.Random(1)  # noqa: S311 - no key
    packets: list[tuple[int, bytes]] = []  # frame in which it is sent, the packet
    frame = sequence = 0
    while frame < seconds * 8000 / FRAME:
        if frame in due:
            event = _event(due[frame])
            packets += [
                (
                    frame + min(step, TONE_FRAMES - 1),
                    _rtp(EVENT, sequence + step, frame * FRAME, told, first=not step),
                )
                for step, told in enumerate(event)
            ]
            sequence += len(event)
            frame += TONE_FRAMES
            continue
        hiss = bytes(noise.choice((0x7B, 0x7D, 0x7F, 0xFF, 0xFD, 0xFB)) for _ in range(FRAME))
        packets.append((frame, _rtp(PCMU, sequence, frame * FRAME, hiss, first=not frame)))
        sequence += 1
        frame += 1
    _write(file, packets)


def _event(key: str) -> list[bytes]:
    """The payloads of one key: one every 20 ms, the last of them three times (RFC 4733 §2.5.1.4)."""
    lengths = [(step + 1) * FRAME for step in range(TONE_FRAMES)]
    going = [struct.pack("!BBH", KEYS.index(key), 10, length) for length in lengths[:-1]]
    return [*going, *[struct.pack("!BBH", KEYS.index(key), 0x80 | 10, lengths[-1])] * 3]


def _rtp(kind: int, sequence: int, timestamp: int, payload: bytes, *, first: bool) -> bytes:
    return struct.pack("!BBHII", 0x80, first << 7 | kind, sequence & 0xFFFF, timestamp, 0x1234ABCD) + payload


def _write(file: Path, packets: list[tuple[int, bytes]]) -> None:
    """As tcpdump would have written it: Ethernet, IPv4, UDP."""
    with file.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for frame, rtp in packets:
            udp = struct.pack("!HHHH", _PORT, _PORT, 8 + len(rtp), 0) + rtp
            ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), bytes(4))
            whole = _ETHERNET_IPV4 + ip + udp
            micros = frame * 20_000
            out.write(
                struct.pack("<IIII", 1 + micros // 1_000_000, micros % 1_000_000, len(whole), len(whole))
            )
            out.write(whole)
