"""`syncd serve --demo`: the demonstration board at /demo, and tokens for whoever gives a name. For trying out only."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import jwt
import msgspec

from syncd.core.errors import Conflict, MethodNotAllowed, NotFound
from syncd.core.principal import Principal
from syncd.edge.answers import Answer
from syncd.edge.files import HERE, Files, built, only_read, safe
from syncd.edge.requests import MAX_SMALL_BODY, Request, checked_id
from syncd.protocol.messages import DemoBody, decode
from syncd.service.spaces import SpaceService

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


class Demo:
    """The page and its sign-in. `claims` go into every token (issuer and audience, where the server wants them)."""

    def __init__(self, secret: str, claims: dict[str, Any]) -> None:
        self._secret, self._claims = secret, claims
        folder = built(*FOLDERS)
        # Vite puts a hash of the content into the names of what lies in assets; the rest is asked for again.
        self._files = None if folder is None else Files(folder, safe(POLICY), ["assets"])

    async def handle(self, request: Request, parts: tuple[str, ...], spaces: SpaceService) -> Answer:
        """Answers an address below /demo."""
        if parts[1:] == ("token",):
            if request.method != "POST":
                raise MethodNotAllowed("POST")
            return await self._token(request, spaces)
        only_read(request)
        if len(parts) == 1:
            return Answer(b"", 308, headers=[(b"location", b"/demo/")])
        if self._files is None:
            raise NotFound("The demo's files were not built: make board.")
        return self._files.answer(request, parts[1:])

    async def _token(self, request: Request, spaces: SpaceService) -> Answer:
        """A member of the demo's space, by name alone."""
        spaces = spaces.unbounded()
        body = decode(await request.body(most=MAX_SMALL_BODY), DemoBody)
        name = checked_id("name", body.name.strip())
        user, host = checked_id("name", f"demo:{name}"), Principal(HOST)
        # It has been there since the first sign-in.
        with contextlib.suppress(Conflict):
            await spaces.create(host, SPACE, SPACE_NAME)
        await spaces.put_member(host, SPACE, user, "writer")
        now = int(time.time())
        claims = {"sub": user, "iat": now, "exp": now + VALID_SECONDS, **self._claims}
        token = jwt.encode(claims, self._secret, algorithm="HS256")
        said = {"token": token, "userId": user, "name": name, "spaceId": SPACE}
        return Answer(msgspec.json.encode(said), headers=[(b"cache-control", b"no-store")])
