"""One run: `python -m examples.agent SPACE`, with SYNCD_URL, AGENT_TOKEN and AGENT_FOLDER in the environment.

The token is a service's. The process may be killed anywhere: what it wrote is in its file whole, or not at all, under
the run that wrote it, and the next run sends that first.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

from syncd_client import Replica

from examples.agent.tidy import tidied

AGENT, APP = "tidy", "notes"


def main(space: str) -> None:
    """Tidies the notes of a space, as one batch. Prints the run's id: by it a person takes the run back."""
    folder, run = Path(os.environ["AGENT_FOLDER"]), str(uuid4())
    folder.mkdir(parents=True, exist_ok=True)
    replica = Replica(
        folder / "agent.db", app=APP, url=os.environ["SYNCD_URL"], token=os.environ["AGENT_TOKEN"],
        actor={"agent": AGENT, "run": run}, origin="agent",
    )  # fmt: skip
    with closing(replica):
        replica.sync()
        done = tidy(replica, space, run, folder / "tidied.json")
        replica.sync()
    print(json.dumps({"run": run, "notes": done}))


def tidy(replica: Replica, space: str, run: str, memory: Path) -> list[str]:
    """Tidies in one batch; the ids of the notes. One that was tidied as it stands now was taken back, and stays so."""
    tidied_once = json.loads(memory.read_text()) if memory.exists() else {}
    notes = {note.id: note for note in replica.query("notes", space=space)}
    wanted = {id: fields for id, note in notes.items() if (fields := tidied(note))}
    wanted = {id: fields for id, fields in wanted.items() if tidied_once.get(id) != print_of(notes[id])}
    if wanted:
        with replica.batch() as batch:
            for id, fields in wanted.items():
                batch.patch("notes", id, fields, space=space)
            batch.put("runs", run, {"agent": AGENT, "notes": sorted(wanted)}, space=space)
        tidied_once |= {id: print_of(notes[id]) for id in wanted}
        new = memory.with_suffix(".new")
        new.write_text(json.dumps(tidied_once))
        new.replace(memory)
    return sorted(wanted)


def print_of(note: Mapping[str, Any]) -> str:
    """A short text that differs where what the agent reads of a note differs."""
    return hashlib.sha256(json.dumps([note.get(name) for name in ("title", "tags", "due")]).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main(sys.argv[1])
