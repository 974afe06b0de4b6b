"""What processes use, as the measurements count it."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.machine import Tree


def test_a_tree_counts_children_that_have_ended() -> None:
    spent = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    own = Tree(os.getpid())
    before = own.cpu()
    subprocess.run([sys.executable, "-c", spent], check=True)
    assert own.cpu() - before >= 0.19
