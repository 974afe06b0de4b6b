"""`syncd serve --demo`: the demonstration board at /demo, and tokens for whoever gives a name. For trying out only."""

from __future__ import annotations

import contextlib
import mimetypes
import time
from pathlib import Path
from typing import Any

import jwt
import msgspec

from syncd.core.errors import Conflict, MethodNotAllowed, NotFound
from syncd.edge.answers import Answer
from syncd.edge.requests import Request, checked_id
from syncd.protocol.messages import DemoBody, decode
from syncd.service.caller import Caller
from syncd.service.spaces import SpaceService

HERE = Path(__file__).resolve().parent.parent
# In an installed package, else what the repository's build wrote.
FOLDERS = (HERE / "board", HERE.parent / "examples" / "board" / "dist")
HOST = "demo:host"
SPACE, SPACE_NAME = "demo-board", "The demo board"
VALID_SECONDS = 12 * 3600
# The page needs nothing from anywhere else, and nobody may frame it. Drag and drop brings its styles along in script.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
SAFE = [
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
TYPES = {".js": "text/javascript", ".webmanifest": "application/manifest+json", ".woff2": "font/woff2"}


class Demo:
    """The page and its sign-in. `claims` go into every token (issuer and audience, where the server wants them)."""

    def __init__(self, secret: str, claims: dict[str, Any]) -> None:
        self._secret, self._claims = secret, claims
        self._folder = next((folder for folder in FOLDERS if (folder / "index.html").is_file()), None)

    async def handle(self, request: Request, parts: tuple[str, ...], spaces: SpaceService) -> Answer:
        """Answers an address below /demo."""
        if parts[1:] == ("token",):
            if request.method != "POST":
                raise MethodNotAllowed("POST")
            return await self._token(request, spaces)
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("GET")
        if len(parts) == 1:
            return Answer(b"", 308, headers=[(b"location", b"/demo/")])
        return self._file(parts[1:])

    async def _token(self, request: Request, spaces: SpaceService) -> Answer:
        """A member of the demo's space, by name alone."""
        spaces = spaces.unbounded()
        name = checked_id("name", decode(await request.body(), DemoBody).name.strip())
        user, host = checked_id("name", f"demo:{name}"), Caller(HOST)
        # It has been there since the first sign-in.
        with contextlib.suppress(Conflict):
            await spaces.create(host, SPACE, SPACE_NAME)
        await spaces.put_member(host, SPACE, user, "writer")
        now = int(time.time())
        claims = {"sub": user, "iat": now, "exp": now + VALID_SECONDS, **self._claims}
        token = jwt.encode(claims, self._secret, algorithm="HS256")
        said = {"token": token, "userId": user, "name": name, "spaceId": SPACE}
        return Answer(msgspec.json.encode(said), headers=[(b"cache-control", b"no-store")])

    def _file(self, names: tuple[str, ...]) -> Answer:
        path = "/".join(names) or "index.html"
        if self._folder is None or any(name in ("..", ".") or "\\" in name or "\0" in name for name in names):
            raise NotFound("The demo's files were not built: make board.") if self._folder is None else NotFound
        file = (self._folder / path).resolve()
        if not file.is_relative_to(self._folder.resolve()) or not file.is_file():
            raise NotFound
        media = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        # Vite puts a hash of the content into the names of what lies in assets; the rest is asked for again.
        kept = b"public, max-age=31536000, immutable" if names[0] == "assets" else b"no-cache"
        return Answer(file.read_bytes(), media_type=media.encode(), headers=[(b"cache-control", kept), *SAFE])
