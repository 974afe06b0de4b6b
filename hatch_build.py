"""What a build takes along besides the sources: the demo's board, where it was built (`make board`).

It is not built here: an installation from the sources has to work without Node. `make wheel` does both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILT = Path("examples/board/dist")


class Board(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the built board where `syncd serve --demo` looks for it; into a source archive, where it lay."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Hatchling's hook. An editable installation finds the files in the repository."""
        if version == "editable":
            return
        folder = Path(self.root) / BUILT
        if not (folder / "index.html").is_file():
            self.app.display_warning("The demo's board was not built, and is left out: make wheel takes it along.")
            return
        goal = "syncd/board" if self.target_name == "wheel" else str(BUILT)
        build_data["force_include"][str(folder)] = goal
