"""As whom a child process runs, and that it does not outlive its parent."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import pwd
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
# What `ps -o comm` and `top` call a worker.
WORKER = "syncd-worker"
# glibc gives each buffer of a page's size back to the kernel and faults it in again for the next page, which is a
# third of the time of a large pull, in the worker and in the database. Kept for reuse instead: 32 MB at most a
# process. Other C libraries ignore it.
ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(16 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}
SOMEBODY_ELSES = "belongs to somebody else: remove it, or choose another --data-dir"
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


def set_process_name(name: str) -> None:
    """What this process is called from now on: at most 15 bytes."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


class Account(msgspec.Struct, frozen=True):
    """A user of the system. `drops` is true when this process is root and has to become that user first."""

    name: str
    uid: int
    gid: int
    drops: bool

    @property
    def home(self) -> str:
        """Where this user's own files are."""
        try:
            return pwd.getpwuid(self.uid).pw_dir
        except KeyError:
            return "/"

    def popen(self) -> dict[str, Any]:
        """The arguments for `subprocess.Popen`."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drops else {}

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Until the block ends, files are opened and made as this user: where a link leads nowhere root alone may go.

        It counts for the whole process, so nothing is started in the block; and nothing is imported there, as what this
        runs by may lie where root alone can read.
        """
        if not self.drops:
            yield
            return
        group, groups = os.getegid(), os.getgroups()
        os.setgroups([])
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(group)
            os.setgroups(groups)

    def open(self, path: Path | str, flags: int) -> int:
        """A file of this user's, opened as this user: no link is followed, no pipe waited for, and what is made is for
        nobody else."""
        with self.acting(), named(path):
            return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)

    def read(self, path: Path) -> bytes:
        """What is in a file of this user's. Raises OSError."""
        with open(self.open(path, os.O_RDONLY), "rb") as file:
            return file.read()

    def write(self, path: Path, content: str) -> None:
        """Writes a file of this user's through to the disk."""
        with open(self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def own_folder(self, path: Path) -> None:
        """Make a folder that only this user can enter; one that belongs to somebody else is refused."""
        owners = {self.uid}
        try:
            with self.acting():
                path.mkdir(mode=0o700, exist_ok=True)
        except PermissionError:
            # Where this user makes nothing, what is root's has been made by root.
            path.mkdir(mode=0o700, exist_ok=True)
            owners.add(0)
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise AccountError(f"{path} {SOMEBODY_ELSES}") from error
        try:
            if os.fstat(folder).st_uid not in owners:
                raise AccountError(f"{path} {SOMEBODY_ELSES}")
            if self.drops:
                os.fchown(folder, self.uid, self.gid)
            os.fchmod(folder, 0o700)
        finally:
            os.close(folder)

    def take(self, folder: Path, ours: set[str]) -> None:
        """As root, hand a folder to this user that holds nothing but `ours`. One that a link leads to is left as it is,
        unless root made the link."""
        follow = 0 if folder.parent.stat().st_uid == 0 else os.O_NOFOLLOW
        try:
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | follow)
        except OSError:
            return
        try:
            if os.fstat(opened).st_uid == 0 and set(os.listdir(opened)) <= ours:
                os.fchown(opened, self.uid, self.gid)
        finally:
            os.close(opened)

    def take_lock(self, path: Path) -> None:
        """Hand the lock to this user that a syncd of before made as root: only a number, under no other name."""
        with contextlib.suppress(FileNotFoundError), named(path):
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                found = os.fstat(file)
                if found.st_uid == self.uid:
                    return
                whole = stat.S_ISREG(found.st_mode) and found.st_uid == 0 and found.st_nlink == 1
                if not whole or not re.fullmatch(rb"\d{0,20}", os.pread(file, 64, 0)):
                    raise AccountError(
                        f"{path} is not what syncd made: remove it, when no other syncd is running there"
                    )
                os.fchown(file, self.uid, self.gid)
            finally:
                os.close(file)

    def can_enter(self, folder: Path) -> bool:
        """Whether this user can reach and list the folder: asked of the kernel, as that user."""
        return self._succeeds(["/bin/sh", "-c", 'cd -- "$1" && test -r . -a -w .', "sh", str(folder)])

    def can_run(self, program: Path) -> bool:
        """Whether this user can execute the program."""
        return self._succeeds([str(program), "--version"])

    def can_serve(self) -> bool:
        """Whether this user can run the interpreter that runs this, and read syncd and what it needs: something of
        each, as to load all of it takes as long as a start."""
        return self._succeeds([sys.executable, "-c", "import syncd.settings"])

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


@contextlib.contextmanager
def named(path: Path | str) -> Iterator[None]:
    """Says of a link that it is one, where none is followed."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise AccountError(f"{path} is a link, which is not followed here: remove it") from None
        raise


def account_for(folder: Path) -> Account:
    """The user that the database runs as: this user; for root the folder's owner, else `postgres`, else `nobody`.

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


def account_named(name: str) -> Account:
    """A user of the system, by name. Raises AccountError."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise AccountError(f"there is no user {name} on this system: useradd --system {name}") from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise AccountError(f"only root can become {name}: start syncd as root, or as {name}")
    return Account(name, entry.pw_uid, entry.pw_gid, os.geteuid() == 0 != entry.pw_uid)


def _named(uid: int, *, drops: bool) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise AccountError(
            f"the user with the number {uid} has no entry in /etc/passwd, and PostgreSQL's initdb wants one: "
            f"useradd --system --uid {uid} syncd"
        ) from None
    return Account(entry.pw_name, uid, entry.pw_gid, drops)
