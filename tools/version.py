"""`python -m tools.version [VERSION]`: the version that all packages have, which is written here alone.

The server, which has the board, and both clients are published together, and say the same number. Without an
argument it prints that; it ends with a message where they differ.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("syncd/__init__.py", "clients/python/syncd_client/__init__.py")
PACKAGES = ("clients/typescript/package.json", "clients/typescript/package-lock.json")
ASSIGNED = re.compile(r'(?m)^__version__ = "([^"]+)"$')
# Of PEP 440 what npm takes too.
TAKEN = re.compile(r"\d+\.\d+\.\d+")


def versions(root: Path = ROOT) -> dict[str, str]:
    """The version that each place says, by its path."""
    found = {name: _assigned(root / name) for name in MODULES}
    return found | {name: str(json.loads((root / name).read_text())["version"]) for name in PACKAGES}


def agreed(found: Mapping[str, str]) -> str:
    """The one version. Raises ValueError where places differ."""
    if len(set(found.values())) != 1:
        raise ValueError("the versions differ: " + ", ".join(f"{name} {version}" for name, version in found.items()))
    return next(iter(found.values()))


def write(version: str, root: Path = ROOT) -> None:
    """Writes a version everywhere. Raises ValueError for one that is not three numbers."""
    if not TAKEN.fullmatch(version):
        raise ValueError(f"{version} is no version of three numbers, as 0.2.0 is")
    for name in MODULES:
        path = root / name
        path.write_text(ASSIGNED.sub(f'__version__ = "{version}"', path.read_text()))
    for name in PACKAGES:
        path = root / name
        package = json.loads(path.read_text())
        package["version"] = version
        if "packages" in package:
            package["packages"][""]["version"] = version
        path.write_text(json.dumps(package, indent=2, ensure_ascii=False) + "\n")


def _assigned(path: Path) -> str:
    found = ASSIGNED.search(path.read_text())
    if found is None:
        raise ValueError(f"{path} has no __version__")
    return found[1]


def main() -> None:
    """Writes the version that is given, and prints the one there is."""
    try:
        for version in sys.argv[1:2]:
            write(version)
        print(agreed(versions()))
    except ValueError as why:
        raise SystemExit(str(why)) from None


if __name__ == "__main__":
    main()
