"""With this folder in PYTHONPATH: the clock of a process is off by the seconds in the file that TEST_CLOCK names."""

import os
import time

place, real, real_ns = os.environ["TEST_CLOCK"], time.time, time.time_ns


def shift() -> int:
    with open(place) as said:
        return int(said.read() or 0)


time.time = lambda: real() + shift()
time.time_ns = lambda: real_ns() + shift() * 1_000_000_000
