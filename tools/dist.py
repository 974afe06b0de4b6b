"""`make dist`: what is published, in dist/: wheels and source archives of the server and the Python client, and the npm
package of the TypeScript client. Each is looked into, and tried where nothing else of the project is.

Nothing is uploaded: .github/workflows/publish.yml does that for a tag.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.version import agreed, versions

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
PYTHON_CLIENT, TYPESCRIPT_CLIENT = ROOT / "clients/python", ROOT / "clients/typescript"
# What each has to have; its names are compared without the archive's own folder.
NEEDED = {
    "syncd wheel": (
        "syncd/py.typed", "syncd/schema/tables/0014_pre_baseline.sql", "syncd/schema/functions/push.sql",
        "syncd/schema/calls/push.sql", "syncd/board/index.html", "syncd/docs/index.html", "licenses/LICENSE",
    ),
    "syncd sdist": (
        "syncd/py.typed", "schema/functions/push.sql", "hatch_build.py", "examples/board/dist/index.html",
        "build/docs/index.html", "LICENSE", "README.md", "CHANGELOG.md",
    ),
    "client wheel": ("syncd_client/py.typed", "syncd_client/replica.py", "licenses/LICENSE"),
    "client sdist": ("syncd_client/py.typed", "syncd_client/replica.py", "LICENSE", "README.md"),
    "npm": ("dist/index.js", "dist/index.d.ts", "LICENSE", "README.md", "package.json"),
}  # fmt: skip
UNWANTED = (".pyc", "node_modules/", "tests/", "test/", ".venv/", "syncd-data/", "bench/")
TRIED = """
import sys
from pathlib import Path
import syncd, syncd_client
assert Path(syncd.__file__).is_relative_to(sys.prefix), syncd.__file__
from syncd_client import Replica
url, token, folder = sys.argv[1:]
for name in ("phone", "laptop"):
    with Replica(f"{folder}/{name}.db", app="dist", url=url, token=token) as replica:
        if name == "phone":
            replica.put("tasks", "milk", {"title": "Buy milk"})
        replica.sync()
        assert replica.get("tasks", "milk")["title"] == "Buy milk"
"""


def names_in(archive: Path) -> list[str]:
    """The files of an archive, without the folder that a source archive and an npm package put all into."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            return file.namelist()
    with tarfile.open(archive) as file:
        return [name.partition("/")[2] for name in file.getnames()]


def faults(names: Sequence[str], needed: Iterable[str]) -> list[str]:
    """What an archive lacks, and what it should not have; one sentence each."""
    lacking = [f"{one} is missing" for one in needed if not any(name.endswith(one) for name in names)]
    return lacking + [f"{name} should not be in it" for name in names if any(one in name for one in UNWANTED)]


def build(dist: Path) -> dict[str, Path]:
    """Builds all into an empty folder; the archives by their kinds."""
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    hatch = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(dist))
    with step("the server"):
        run(*hatch, cwd=ROOT)
    with step("the Python client"):
        run(*hatch, cwd=PYTHON_CLIENT)
    with step("the TypeScript client"):
        run("npm", "pack", "--silent", "--pack-destination", str(dist), cwd=TYPESCRIPT_CLIENT)
    patterns = {
        "syncd wheel": "syncd-*.whl", "syncd sdist": "syncd-[0-9]*.tar.gz", "client wheel": "syncd_client-*.whl",
        "client sdist": "syncd_client-*.tar.gz", "npm": "syncd-client-*.tgz",
    }  # fmt: skip
    return {kind: next(dist.glob(pattern)) for kind, pattern in patterns.items()}


def check(archives: dict[str, Path]) -> None:
    """Looks into each. Raises SystemExit with all that is wrong."""
    found = [
        f"{archive.name}: {fault}"
        for kind, archive in archives.items()
        for fault in faults(names_in(archive), NEEDED[kind])
    ]
    if found:
        raise SystemExit("\n".join(found))


def from_source(sdist: Path, wheel: Path, folder: Path) -> None:
    """A wheel that is built from a source archive has the files of the one beside it."""
    with tarfile.open(sdist) as file:
        file.extractall(folder, filter="data")
    [source] = folder.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheel"), cwd=source)
    [built] = (folder / "wheel").glob("*.whl")
    differ = set(names_in(built)) ^ set(names_in(wheel))
    if differ:
        raise SystemExit(f"{sdist.name} makes another wheel: {', '.join(sorted(differ)[:10])}")


def try_python(archives: dict[str, Path], folder: Path) -> None:
    """Installs both wheels into an empty environment; a server of that, and two devices that sync."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", archives["syncd wheel"],
        archives["client wheel"], cwd=folder)  # fmt: skip
    syncd = folder / "venv/bin/syncd"
    data = ("--data-dir", str(folder / "data"))
    if run(syncd, "--version", cwd=folder).split()[-1] != agreed(versions()):
        raise SystemExit("syncd --version says another version")
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [syncd, "serve", "--port", "0", *data], cwd=folder, env=environment(), stdout=output, stderr=output
        )
    try:
        url = _address(server, log)
        token = run(syncd, "token", "ada", *data, cwd=folder).strip()
        run(python, "-c", TRIED, url, token, str(folder), cwd=folder)
    finally:
        server.terminate()
        server.wait(30)


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(600):
        words = [word.rstrip(".,") for word in log.read_text().replace('"', " ").split() if word.startswith("http://")]
        if words:
            return words[0]
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"syncd serve did not start: {log.read_text()[-2000:]}")


def try_npm(package: Path, folder: Path) -> None:
    """Installs the npm package into an empty folder, and imports each of its doors that needs nothing else."""
    (folder / "package.json").write_text('{"name": "tried", "private": true, "type": "module"}')
    run("npm", "install", "--no-audit", "--no-fund", "--loglevel", "error", package, cwd=folder)
    installed = folder / "node_modules/@syncd/client"
    doors = json.loads((installed / "package.json").read_text())["exports"]
    # Frameworks and RxDB are the application's own.
    others = ("./react", "./rxdb", "./solid", "./svelte", "./vue", "./package.json")
    named = [f"@syncd/client{door[1:]}" for door in doors if door not in others]
    lines = "\n".join(f"if (!Object.keys(await import({name!r})).length) throw new Error({name!r});" for name in named)
    run("node", "--input-type=module", "-e", lines, cwd=folder)
    missing = [
        way["types"] for way in doors.values() if isinstance(way, dict) and not (installed / way["types"]).exists()
    ]
    if missing:
        raise SystemExit(f"types are missing: {', '.join(missing)}")


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints. Raises SystemExit with all that it said where it fails."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def environment() -> dict[str, str]:
    """Ours, without what would let a program find the repository, or a setting."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SYNCD_", "PYTHONPATH"))}


@contextmanager
def step(what: str) -> Iterator[None]:
    """Says what is being done, and how long it took."""
    print(f"{what} …", end=" ", flush=True)
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    """Builds, looks into and tries all that is published."""
    print(f"version {agreed(versions())}")
    archives = build(DIST)
    check(archives)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The server's database runs as another user where root does this.
        folder.chmod(0o755)
        for kind in ("syncd", "client"):
            with step(f"the {kind}'s source archive makes the same wheel"):
                place = folder / f"{kind}-source"
                place.mkdir()
                from_source(archives[f"{kind} sdist"], archives[f"{kind} wheel"], place)
        with step("both wheels in an empty environment: a server, and two devices that sync"):
            (folder / "python").mkdir()
            try_python(archives, folder / "python")
        with step("the npm package in an empty folder"):
            (folder / "npm").mkdir()
            try_npm(archives["npm"], folder / "npm")
    for archive in archives.values():
        print(f"{archive.stat().st_size:>10,}  {archive.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
