"""What is read of /proc."""

from __future__ import annotations

import pytest

from bench import machine
from bench.machine import at_work, is_busy, of_the_dead, on_processor, own_memory
from bench.ws_load import Frames, frame


def test_a_thread_s_time_comes_first_in_its_schedstat() -> None:
    assert on_processor("2500000000 102882 17") == 2.5


def test_the_time_of_children_that_ended_is_found_behind_any_name() -> None:
    numbers = ["S", *(str(n) for n in range(4, 53))]
    stat = "7 (a) name) of (mine) " + " ".join(numbers)
    # fields 16 and 17 of proc(5), of which the name is the second
    assert of_the_dead(stat) == (16 + 17) * machine.TICK


def test_waiting_is_no_work() -> None:
    stat = "cpu  100 10 50 9999 777 3 2 5 40 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert at_work(stat) == (100 + 10 + 50 + 3 + 2 + 5) * machine.TICK


def test_files_and_shared_buffers_are_not_a_process_s_own_memory() -> None:
    assert own_memory("Rss: 9 kB\nPss: 8 kB\nPss_Anon:            112 kB\nPss_File: 57 kB\n") == 112 * 1024


def test_a_little_of_others_is_not_a_busy_machine() -> None:
    assert not is_busy(0.05)
    assert is_busy(0.3)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_frames_of_every_size_are_cut_where_they_end(size: int, step: int) -> None:
    found = list[bytes]()
    frames = Frames(lambda opcode, text: found.append(text))
    text = b"x" * size
    # a server's frames have no mask: the same head without it
    said = b"".join(_unmasked(frame(one)) for one in (text, b"after"))
    for start in range(0, len(said), step):
        frames.feed(said[start : start + step])
    assert found == [text, b"after"]


def test_a_message_in_parts_is_one() -> None:
    found = list[bytes]()
    frames = Frames(lambda opcode, text: found.append(text))
    frames.feed(b"\x01\x03abc\x00\x02de\x80\x01f")
    assert found == [b"abcdef"]


def _unmasked(said: bytes) -> bytes:
    wide = {126: 2, 127: 8}.get(said[1] & 0x7F, 0)
    return bytes((said[0], said[1] & 0x7F)) + said[2 : 2 + wide] + said[6 + wide :]
