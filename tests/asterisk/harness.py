"""A real Asterisk for the test session, on loopback, that leaves nothing behind.

It runs in a chroot of its own mount namespace: what is mounted there vanishes with the process,
however it ends, and two runs side by side share the tree without seeing each other. All that
Asterisk writes goes to a folder of the run (seen inside as ``/mnt``). The dialplan, the music
class and the sounds are the repository's own, so that the tests prove what users install.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from ami import Ami
from rootfs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ami import Packet

CONF = Path(__file__).with_name("conf")
START_SECONDS = 40.0
STOP_SECONDS = 10.0
FOLDERS = (
    "etc",
    "run",
    "log/cdr-custom",
    "log/cel-custom",
    "lib",
    "spool/monitor",
    "cache",
    "share/moh",
    "share/sounds",
)

# Every step is exec'ed, so that the process we started *is* Asterisk in the end; should the
# test run be killed, the kernel ends Asterisk too (pdeathsig), and its mounts with it.
OWN_NAMESPACE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private")
ENTER = (
    'mount --bind /proc "$1/proc" && mount --rbind /dev "$1/dev" && mount --bind "$2" "$1/mnt"'
    ' && mount --bind "$2/resolv.conf" "$1/etc/resolv.conf"'
)
EXEC = 'exec chroot "$1" /usr/sbin/asterisk -f -C /mnt/etc/asterisk.conf'


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a TCP or UDP port of the loopback that nobody listens on just now."""
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Asterisk:
    """One Asterisk: `start`, `stop`, and a manager connection for whoever wants to call."""

    def __init__(
        self, tree: Path, home: Path, more: Mapping[str, str] | None = None, nameserver: str = "127.0.0.1"
    ):
        """more: lines to be added to a file of the configuration, by its name. nameserver: who is asked."""
        self.tree = tree
        self.home = home
        self.port = free_port()
        self.sip_port = free_port(socket.SOCK_DGRAM)
        self._more = dict(more or {})
        self._nameserver = nameserver
        self._secret = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def sounds(self) -> Path:
        """Asterisk's sound folder: ``fa/ivr-agi/…``, copies that a test may take away."""
        return self.home / "share/sounds"

    @property
    def log(self) -> str:
        """All that Asterisk has logged, its console included."""
        files = [self.home / "log/messages", self.home / "log/console"]
        return "".join(one.read_text(errors="replace") for one in files if one.exists())

    def start(self) -> None:
        """Bring it up and wait until it says that it is ready."""
        self._furnish()
        (self.home / "resolv.conf").write_text(f"nameserver {self._nameserver}\n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            # Asterisk tells systemd's way that it has booted; no polling needed.
            ready.bind(str(self.home / "run/ready"))
            with (self.home / "log/console").open("wb") as console:
                self._process = subprocess.Popen(
                    [*OWN_NAMESPACE, "sh", "-c", f"{ENTER} && {EXEC}", "sh", str(self.tree), str(self.home)],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "NOTIFY_SOCKET": "/mnt/run/ready"},
                )
            try:
                self._wait_until_ready(ready)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End it; its mounts and its calls go with it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def manager(self, on_event: Callable[[Packet], None], user: str = "robot", secret: str = "") -> Ami:
        """Return a manager connection (to be entered) that hands every event to `on_event`."""
        return Ami(self.port, user, secret or self._secret, on_event)

    @contextmanager
    def without_sound(self, name: str) -> Iterator[None]:
        """Take one clip away in every language, as if the admin had forgotten it."""
        clips = list(self.sounds.glob(f"*/ivr-agi/{name}.*"))
        if not clips:
            raise LookupError(f"there is no clip {name} to take away in {self.sounds}")
        for clip in clips:
            clip.rename(clip.with_suffix(clip.suffix + ".away"))
        try:
            yield
        finally:
            for clip in clips:
                clip.with_suffix(clip.suffix + ".away").rename(clip)

    def _furnish(self) -> None:
        """Lay out the run's folder: configuration, sounds, music."""
        for folder in FOLDERS:
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        # usr/lib/asterisk on old Debians, usr/lib/ARCHITECTURE/asterisk on new ones
        modules = min(self.tree.glob("usr/lib/**/asterisk/modules")).relative_to(self.tree)
        blanks = {"modules": f"/{modules}", "port": self.port, "sip_port": self.sip_port}
        blanks["secret"] = self._secret
        for conf in CONF.glob("*.conf"):
            (self.home / "etc" / conf.name).write_text(Template(conf.read_text()).substitute(blanks))
        for conf in (REPOSITORY / "asterisk-conf").glob("*.conf"):
            shutil.copy(conf, self.home / "etc")
        for name, lines in self._more.items():
            with (self.home / "etc" / name).open("a") as conf:
                conf.write(lines)
        share = self.home / "share"
        # Links that are followed inside the chroot.
        (share / "documentation").symlink_to("/usr/share/asterisk/documentation")
        for language in ("fa", "en"):
            if (shipped := REPOSITORY / "sounds" / language).is_dir():
                shutil.copytree(shipped, share / "sounds" / language)
        # Every installation has Asterisk's own beep.
        beep = "/usr/share/asterisk/sounds/en_US_f_Allison/beep.gsm"
        (share / "sounds/en/beep.gsm").symlink_to(beep)
        if (music := REPOSITORY / "sounds/moh/ivr-agi").is_dir():
            shutil.copytree(music, share / "moh/ivr-agi")

    def _wait_until_ready(self, ready: socket.socket) -> None:
        assert self._process is not None
        death = os.pidfd_open(self._process.pid)
        try:
            said = b""
            while b"READY=1" not in said:
                able, _, _ = select.select([ready, death], [], [], START_SECONDS)
                if ready not in able:
                    what = "ended" if able else f"was not up after {START_SECONDS:.0f} s"
                    raise RuntimeError(f"Asterisk {what}:\n{self.log[-4000:]}")
                said = ready.recv(4096)
        finally:
            os.close(death)
