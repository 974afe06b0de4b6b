"""What a build takes along besides the sources: the demo's board and the documentation, where they were built.

They are not built here: an installation from the sources has to work without Node, and without what makes the
documentation. `make wheel` does all of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Where it is built, and where the server of a wheel looks for it; what builds it.
BUILT = {"examples/board/dist": ("syncd/board", "make board"), "build/docs": ("syncd/docs", "make docs")}


class Built(BuildHookInterface):  # type: ignore[type-arg]
    """Puts what was built where `syncd serve` looks for it; into a source archive, where it lay."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Hatchling's hook. An editable installation finds the files in the repository."""
        if version == "editable":
            return
        for built, (place, command) in BUILT.items():
            folder = Path(self.root) / built
            if (folder / "index.html").is_file():
                build_data["force_include"][str(folder)] = place if self.target_name == "wheel" else built
            else:
                self.app.display_warning(f"{built} was not built, and is left out: {command} builds it.")
