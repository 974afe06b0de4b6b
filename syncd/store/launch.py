"""As whom a child process runs, and that it does not outlive its parent."""

from __future__ import annotations

import ctypes
import hashlib
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

PR_SET_PDEATHSIG = 1
# glibc gives each buffer of a page's size back to the kernel and faults it in again for the next page, which is a
# third of the time of a large pull, in the worker and in the database. Kept for reuse instead: 32 MB at most a
# process. Other C libraries ignore it.
ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(16 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}
# Loaded here: after a fork nothing may be imported or allocated at leisure.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class EmbeddedError(Exception):
    """The embedded database cannot be started; the text says why and what to do."""


class AccountError(EmbeddedError):
    """There is no user that the database could run as; the text says what to do."""


def die_with_parent(sign: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: the kernel sends `sign` to the child when the thread that forked it ends.

    It has to run after the change of user, which clears the request; `subprocess` does it in that order.
    """
    parent = os.getpid()

    def arrange() -> None:
        if _LIBC is not None:
            _LIBC.prctl(PR_SET_PDEATHSIG, int(sign), 0, 0, 0)
            # The parent may have died in between: then nobody would tell us.
            if os.getppid() != parent:
                os._exit(1)

    return arrange


class Account(msgspec.Struct, frozen=True):
    """A user of the system. `drops` is true when this process is root and has to become that user first."""

    name: str
    uid: int
    gid: int
    drops: bool

    def popen(self) -> dict[str, Any]:
        """The arguments for `subprocess.Popen`."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drops else {}

    def own_file(self, path: Path) -> None:
        """Hand a file to this user."""
        if self.drops:
            os.chown(path, self.uid, self.gid)

    def own_folder(self, path: Path) -> None:
        """Make a folder that only this user can enter; one that belongs to somebody else is refused."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if path.is_symlink() or found.st_uid not in (os.geteuid(), self.uid):
            raise AccountError(f"{path} belongs to somebody else: remove it, or choose another --data-dir")
        self.own_file(path)
        path.chmod(0o700)

    def can_enter(self, folder: Path) -> bool:
        """Whether this user can reach and list the folder: asked of the kernel, as that user."""
        return self._succeeds(["/bin/sh", "-c", 'cd -- "$1" && test -r . -a -w .', "sh", str(folder)])

    def can_run(self, program: Path) -> bool:
        """Whether this user can execute the program."""
        return self._succeeds([str(program), "--version"])

    def runtime_folder(self, data_dir: Path) -> Path:
        """A short folder for sockets that belongs to this data directory and this user alone."""
        digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        base = os.environ.get("XDG_RUNTIME_DIR", "") if not self.drops else ""
        if base and len(base) < 60 and "," not in base and os.access(base, os.W_OK):
            return Path(base) / f"syncd-{digest}"
        return Path("/tmp") / f"syncd-{self.uid}-{digest}"

    def _succeeds(self, command: list[str]) -> bool:
        try:
            done = subprocess.run(command, capture_output=True, cwd="/", check=False, timeout=30, **self.popen())
        except (OSError, subprocess.SubprocessError):
            return False
        return done.returncode == 0


def account_for(folder: Path) -> Account:
    """Who the database runs as: this user; for root the folder's owner, else `postgres`, else `nobody`.

    Raises:
        AccountError: the user has no passwd entry, which initdb wants.
    """
    if os.geteuid() != 0:
        return _named(os.geteuid(), drops=False)
    owner = folder.stat().st_uid if folder.exists() else 0
    if owner != 0:
        return _named(owner, drops=True)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid, True)
    raise AccountError("PostgreSQL refuses to run as root and there is no user postgres: useradd --system postgres")


def _named(uid: int, *, drops: bool) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise AccountError(
            f"the user with the number {uid} has no entry in /etc/passwd, and PostgreSQL's initdb wants one: "
            f"useradd --system --uid {uid} syncd"
        ) from None
    return Account(entry.pw_name, uid, entry.pw_gid, drops)
