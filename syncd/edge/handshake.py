"""The opening handshake of a WebSocket: whether it may be, and which app it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from syncd.core.errors import Malformed, NotFound, SyncdError
from syncd.edge.admission import Admission, token_in_query
from syncd.edge.live_deps import LiveDeps
from syncd.edge.problems import problem
from syncd.edge.requests import checked_id, path_parts


def answer(
    request: Request, protocol: ServerProtocol, deps: Callable[[], LiveDeps]
) -> tuple[Response, LiveDeps, str | None]:
    """The response, what the socket's session is to work with, and the only app that it is for. The status is 101 where
    it is opened. Raises NotFound, Malformed, Forbidden, DatabaseUnavailable."""
    path, _, query = request.path.partition("?")
    app = app_of(path.encode(), query)
    found = deps()
    check_page(found.admission, headers_of(request))
    response = protocol.accept(request)
    if response.status_code == 500:
        raise Malformed("The handshake's headers cannot be read.")
    return response, found, app


def headers_of(request: Request) -> list[tuple[bytes, bytes]]:
    """Its headers as they are of any other request, with names in small letters."""
    return [
        # Some versions of the library decode a byte above 127 as it is, others into a surrogate.
        (name.lower().encode("latin-1"), value.encode("latin-1", "surrogateescape"))
        for name, value in request.headers.raw_items()
    ]


def app_of(path: bytes, query: str) -> str | None:
    """The app that an address names, None for /ws. Raises NotFound, Malformed, Forbidden."""
    parts = path_parts(path)
    if not 1 <= len(parts) <= 2 or parts[0] != "ws":
        raise NotFound
    if refused := token_in_query(query):
        raise refused
    return None if len(parts) == 1 else checked_id("app", parts[1])


def check_page(admission: Admission, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Whether a page of that origin may do this. Raises Malformed, Forbidden."""
    origins, hosts = list[str](), list[str]()
    for name, value in headers:
        if name in (b"origin", b"host"):
            (origins if name == b"origin" else hosts).append(value.decode("latin-1"))
    if len(origins) > 1 or len(hosts) > 1:
        raise Malformed("One Origin and one Host at most.")
    admission.check_origin("".join(origins) if origins else None, "".join(hosts))


def refusal(why: SyncdError) -> Response:
    """A problem, as for any other request."""
    answer = problem(why)
    headers = Headers([("Content-Type", answer.media_type.decode()), ("Content-Length", str(len(answer.body)))])
    headers["Connection"] = "close"
    for name, value in answer.headers:
        headers[name.decode()] = value.decode()
    return Response(answer.status, "Refused", headers, answer.body)
