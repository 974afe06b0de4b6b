"""Two devices, offline, one conflict: `python examples/todo.py` (SYNCD_URL and SYNCD_TOKEN name another server)."""

import os
import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, check_output

from syncd_client import Replica

SYNCD = [sys.executable, "-m", "syncd"]


def show(step: str, *devices: Replica) -> None:
    print(f"\n{step}")
    for device in devices:
        for todo in device.query("todos"):
            print(f"  {device.client_id:7}{'[x]' if todo['done'] else '[ ]'} {todo['title']} ({todo['when']})")


def play(folder: Path, url: str, token: str) -> None:
    with (
        Replica(folder / "phone.db", app="todo", url=url, token=token, client_id="phone") as phone,
        Replica(folder / "laptop.db", app="todo", url=url, token=token, client_id="laptop") as laptop,
    ):
        phone.put("todos", "milk", {"title": "Buy milk", "when": "today", "done": False})
        show("1. The phone is offline, and writes. Nobody else knows.", phone, laptop)
        phone.sync()
        laptop.sync()
        show("2. Both were online for a moment.", phone, laptop)
        phone.patch("todos", "milk", {"when": "tomorrow", "done": True})
        time.sleep(0.01)
        laptop.patch("todos", "milk", {"when": "tonight", "title": "Buy oat milk"})
        show("3. Offline again, both edit it. `when` is written by both, last by the laptop.", phone, laptop)
        laptop.sync()
        for lost in phone.sync().conflicts:
            print(f"\n  The phone is told: its {lost.field} {lost.client_value!r} lost to {lost.server_value!r}.")
        laptop.sync()
        show("4. Both have synced. Each field has its last writer's value, on both.", phone, laptop)
        assert phone.all_registers() == laptop.all_registers()


with tempfile.TemporaryDirectory(prefix="syncd-todo-") as name:
    os.chmod(name, 0o755)  # when root runs this, the database runs as another user, who has to get in
    if "SYNCD_URL" in os.environ:
        play(Path(name), os.environ["SYNCD_URL"], os.environ["SYNCD_TOKEN"])
    else:
        data = ["--data-dir", f"{name}/data"]
        with Popen([*SYNCD, "serve", "--port", "0", *data], stdout=PIPE, stderr=DEVNULL, text=True) as server:
            try:
                assert server.stdout
                url = server.stdout.readline().split()[-1]  # syncd is ready at http://…
                play(Path(name), url, check_output([*SYNCD, "token", "ada", *data], text=True).strip())
            finally:
                server.terminate()
