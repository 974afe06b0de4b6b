"""`make docs`: gathers the pages, makes a site of them in build/docs, and writes llms.txt.

The pages are docs/, and those that lie elsewhere in the repository because a reader looks for them there. A link to a
file that is not on the site becomes its name.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS, GATHERED, SITE = ROOT / "docs", ROOT / "build" / "docs-source", ROOT / "build" / "docs"
# Where on the site the pages are that lie elsewhere.
ELSEWHERE = {
    "ARCHITECTURE.md": "internals/architecture.md",
    "CONTRIBUTING.md": "internals/contributing.md",
    "CHANGELOG.md": "internals/changelog.md",
    "clients/python/README.md": "reference/python.md",
    "clients/typescript/README.md": "reference/typescript.md",
    "clients/typescript/RXDB.md": "reference/rxdb.md",
    "examples/perl/README.md": "reference/perl.md",
    "tests/vectors/README.md": "reference/vectors.md",
}
# What a link to it leads to, though its text is not a page.
INSTEAD = {"README.md": "index.md", "docs/internals/adr": "internals/adr/index.md"}
# Besides the pages.
SHOWN = {".py", ".js", ".css", ".png", ".svg"}
DECISIONS = """# Decisions

Each had more than one good answer, and says what was asked, what was decided and what it costs.

```{toctree}
:glob:
0*
```
"""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
# In furo's pages there is one script that is not in a file, which the server's policy would not let run.
# Where the theme keeps out readers who see or point otherwise: a heading without its level, a table or block that
# scrolls and takes no key.
AMENDED = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<table class="docutils align-default">': '<table class="docutils align-default" tabindex="0">',
    "<pre><span></span>": '<pre tabindex="0"><span></span>',
}
INLINE = re.compile(r"<script>\s*document\.body\.dataset\.theme = .*?</script>", re.DOTALL)


def pages() -> dict[str, str]:
    """Every page of the site by its file's path in the repository."""
    inside = {str(path.relative_to(ROOT)): str(path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))}
    return inside | ELSEWHERE


def gathered(text: str, source: str, there: dict[str, str]) -> str:
    """A page's text, with its links as they are on the site. `source`: its file; `there`: the pages."""

    def link(found: re.Match[str]) -> str:
        image, words, target = found.groups()
        path, hash_, anchor = target.partition("#")
        if "://" in target or target.startswith(("/", "mailto:")) or not path:
            return found[0]
        file = os.path.normpath(os.path.join(os.path.dirname(source), path))
        if image:
            return f"![{words}]({os.path.relpath(file, os.path.join('docs', os.path.dirname(there[source])))})"
        if (page := there.get(file) or INSTEAD.get(file)) is None:
            return words if "`" in words else f"`{file}`" if words == path else f"{words} (`{file}`)"
        place = os.path.relpath(page, os.path.dirname(there[source]))
        return f"[{words}]({place}{hash_ if file not in INSTEAD else ''}{anchor if file not in INSTEAD else ''})"

    parts = FENCE.split(text)
    for index in range(0, len(parts), 2):
        parts[index] = LINK.sub(link, parts[index])
        parts[index] = re.sub(r'<a id="([\w-]+)"></a>', r"(\1)=\n", parts[index])
    return "".join(parts)


def contents() -> dict[str, bytes]:
    """What Sphinx is given, by its path."""
    there = pages()
    texts = {page: gathered((ROOT / file).read_text(encoding="utf-8"), file, there) for file, page in there.items()}
    others = (path for path in DOCS.rglob("*") if path.is_file() and path.suffix in SHOWN)
    shown = {str(path.relative_to(DOCS)): path.read_bytes() for path in others}
    return (
        {page: text.encode() for page, text in texts.items()} | shown | {"internals/adr/index.md": DECISIONS.encode()}
    )


def gather(given: dict[str, bytes]) -> None:
    """Writes it into one folder. What is there and the same stays, so that Sphinx reads only what has changed."""
    for path in GATHERED.rglob("*"):
        if path.is_file() and str(path.relative_to(GATHERED)) not in given:
            path.unlink()
    for name, content in given.items():
        goal = GATHERED / name
        goal.parent.mkdir(parents=True, exist_ok=True)
        if not goal.is_file() or goal.read_bytes() != content:
            goal.write_bytes(content)


def toctree(index: str) -> Iterator[tuple[str, str]]:
    """The site's order: the caption and the page of each entry of the index."""
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", index, re.MULTILINE | re.DOTALL):
        caption = found[1] if (found := re.search(r"^:caption: (.*)$", block, re.MULTILINE)) else ""
        for line in block.splitlines():
            if line and not line.startswith(":"):
                yield caption, line


def llms(index: str, titles: dict[str, str]) -> str:
    """llms.txt: what this is, and a link to the text of each page. `titles`: of the pages, by their names."""
    title, summary = index.split("\n\n")[:2]
    lines, last = [title, "", f"> {' '.join(summary.split())}"], ""
    for caption, name in toctree(index):
        lines += ["", f"## {caption}", ""] if caption != last else []
        lines.append(f"- [{titles[name]}](/docs/{name}.md)")
        last = caption
    return "\n".join(lines) + "\n"


def finish(given: dict[str, bytes]) -> None:
    """What the site has besides Sphinx's pages: their text, llms.txt, and no script within a page."""
    titles = {}
    for name, content in given.items():
        if name.endswith(".md"):
            titles[name.removesuffix(".md")] = re.findall(r"^# (.+)$", content.decode(), re.MULTILINE)[0]
            (SITE / name).write_bytes(content)
    (SITE / "llms.txt").write_text(llms(given["index.md"].decode(), titles), encoding="utf-8")
    for page in SITE.rglob("*.html"):
        name = str(page.relative_to(SITE).with_suffix(""))
        if name not in titles and name != "search":
            page.unlink()
            continue
        script = f'<script src="{"../" * name.count("/")}_static/theme.js"></script>'
        text = INLINE.sub(script, page.read_text(encoding="utf-8"))
        for before, after in AMENDED.items():
            text = text.replace(before, after)
        page.write_text(text, encoding="utf-8")


def main() -> int:
    """The exit code: not 0 where a page has a fault, each of which is named. What is up to date is left alone."""
    given = contents()
    state = hashlib.sha256(Path(__file__).read_bytes() + repr(sorted(given.items())).encode()).hexdigest()
    stamp = SITE.with_name("docs.stamp")
    if not (SITE / "index.html").is_file() or not stamp.is_file() or stamp.read_text() != state:
        from sphinx.cmd.build import main as sphinx

        gather(given)
        SITE.mkdir(parents=True, exist_ok=True)
        doctrees = str(SITE.with_name("docs-doctrees"))
        code: int = sphinx(["-b", "html", "-q", "-W", "--keep-going", "-d", doctrees, str(GATHERED), str(SITE)])
        if code:
            return code
        finish(given)
        stamp.write_text(state)
    print(f"{SITE}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
