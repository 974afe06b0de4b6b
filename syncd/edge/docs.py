"""The documentation at /docs: files that `make docs` wrote, and the page of error codes, which needs none."""

from __future__ import annotations

from syncd.core.errors import NotFound
from syncd.edge.answers import Answer
from syncd.edge.error_page import error_page
from syncd.edge.files import HERE, Files, built, only_read, safe
from syncd.edge.page import page, reads_html, text
from syncd.edge.requests import Request

# In an installed package, else what the repository's build wrote.
FOLDERS = (HERE / "docs", HERE.parent / "build" / "docs")
# The pages need nothing from anywhere else, and nobody may frame them. The theme's drawings have styles of their own.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
NOT_BUILT = "The documentation was not built. Run `make docs` in the repository, then start syncd again."


class Docs:
    """Answers what is below /docs, without a token."""

    def __init__(self) -> None:
        folder = built(*FOLDERS)
        self._files = None if folder is None else Files(folder, safe(POLICY))

    @property
    def there(self) -> bool:
        """Whether the documentation was built."""
        return self._files is not None

    def handle(self, request: Request, parts: tuple[str, ...]) -> Answer:
        """What is not there is a page for a browser, and NotFound for others."""
        only_read(request)
        if parts[1:] == ("errors",):
            return error_page()
        if len(parts) == 1 and self.there:
            return Answer(b"", 308, headers=[(b"location", f"{request.root}/docs/".encode())])
        try:
            if self._files is None:
                raise NotFound(NOT_BUILT)
            return self._files.answer(request, parts[1:])
        except NotFound:
            if not reads_html(request):
                raise
            first = f'Begin at <a href="{request.root}/docs/">the first page</a>.'
            way = first if self.there else text(NOT_BUILT)
            return page("There is no such page", f"<p>{way}</p>", 404)
