"""`syncd serve` for as long as its standard input is open: it ends with the tests that started it, however they end.

Started with a folder, it removes that when it was left alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading


class _Watch(threading.Thread):
    """Waits for the end of standard input. The kernel's word that a parent died would be about a thread of it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.alone = False

    def run(self) -> None:
        while os.read(0, 1024):
            pass
        self.alone = True
        os.kill(os.getpid(), signal.SIGTERM)


def main(folder: str) -> None:
    """Serves until SIGTERM, or until nobody is left who could send it."""
    from syncd.cli import main as syncd

    watch = _Watch()
    watch.start()
    try:
        syncd(["serve"], prog_name="syncd")
    finally:
        if watch.alone:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
