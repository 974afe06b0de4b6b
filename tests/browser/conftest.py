"""One Chromium, one server and one page's host for all tests in a browser; a context of its own for each visitor."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Playwright, async_playwright, expect

from tests.browser import chromium
from tests.browser.site import Site
from tests.browser.visitor import Tab, Visitor
from tests.support import node
from tests.support.harness import Server
from tests.support.proxy import LINE, Proxy, bad_line
from tests.support.wire import unique

HERE = Path(__file__).parent
SCREENSHOTS = HERE / "screenshots"

Visit = Callable[..., Awaitable[Visitor]]
OpenTab = Callable[..., Awaitable[Tab]]
MakeVisitor = Callable[..., Awaitable[Visitor]]
Cards = Callable[[], dict[str, Any]]

# On a bad line a page takes long to load. In seconds.
PATIENCE = 120.0
# A large window: of a long list only what is in view is in the page.
WINDOW = {"width": 1280, "height": 1400}

# Its own five seconds are little where two browsers and their servers share two processors.
expect.set_options(timeout=60_000)


@pytest_asyncio.fixture(scope="module")
async def playwright() -> AsyncIterator[Playwright]:
    async with async_playwright() as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def browser(playwright: Playwright) -> AsyncIterator[Browser]:
    running = await playwright.chromium.launch(**chromium.options(playwright))
    yield running
    await running.close()


@pytest_asyncio.fixture
async def visitor(browser: Browser, open_server: Server) -> AsyncIterator[Visit]:
    """Makes visitors of the server: `await visitor()`. All are gone in the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(server: Server = open_server, **more: Any) -> Visitor:
            network = await stack.enter_async_context(Proxy(server.port))
            context = await browser.new_context(**more)
            if LINE == "bad":
                network.usual = bad_line()
                network.heal()
                context.set_default_timeout(PATIENCE * 1000)
                expect.set_options(timeout=PATIENCE * 1000)
            stack.push_async_callback(context.close)
            return Visitor(context, network)

        yield make


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test page's folder: the client's own source, bundled as an application would."""
    esbuild = node.packages(HERE) / ".bin" / "esbuild"
    folder = tmp_path_factory.mktemp("page")
    node.run(
        HERE, esbuild, "page/page.js", "page/worker.js", "--bundle", "--format=esm", "--target=es2022",
        f"--alias:@syncd/client={node.CLIENT / 'src' / 'index.ts'}", f"--outdir={folder}",
    )  # fmt: skip
    for name in ("index.html", "sandboxed.html"):
        (folder / name).write_bytes((HERE / "page" / "index.html").read_bytes())
    return folder


@pytest.fixture(scope="session")
def site(built: Path) -> Iterator[Site]:
    with Site(built) as running:
        yield running


@pytest.fixture(scope="module")
def open_server(workspace: Path) -> Iterator[Server]:
    """A server that pages of any origin may call."""
    with Server(workspace / unique("browser"), settings={"allowed_origins": "*"}) as running:
        yield running


@pytest.fixture
def tab(site: Site, open_server: Server) -> OpenTab:
    """Opens the test page: `await tab(visitor)`."""

    async def open_tab(visitor: Visitor, path: str = "/") -> Tab:
        opened = Tab(await visitor.context.new_page(), visitor.url, open_server.token)
        await opened.page.goto(site.url + path)
        await opened.eventually("window.ready")
        return opened

    return open_tab


@pytest.fixture(scope="module")
def demo(workspace: Path) -> Iterator[Server]:
    """A server with the demo."""
    node.board()
    with Server(workspace / unique("board"), settings={"demo": True}) as running:
        yield running


@pytest.fixture
def guest(visitor: Visit, demo: Server) -> MakeVisitor:
    """Makes visitors of the board, each a browser of its own."""
    return lambda **more: visitor(demo, **{"viewport": WINDOW, **more})


@pytest.fixture
def cards(demo: Server) -> Cards:
    """The cards as the server has them: fields by title."""

    def read() -> dict[str, Any]:
        headers = {"authorization": f"Bearer {demo.token('demo:host')}", "x-sync-protocol": "1"}
        answer = httpx.get(f"{demo.url}/sync/board/pull?limit=10000&collection=cards", headers=headers)
        found = [change["fields"] for change in answer.json()["serverChanges"]]
        rows = [{name: register["value"] for name, register in fields.items()} for fields in found]
        return {row["title"]: row for row in rows}

    return read
