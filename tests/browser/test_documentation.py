"""The page at / and the documentation, in a browser: light and dark, on a desk and on a small phone, by keyboard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.conftest import SCREENSHOTS, Visit
from tests.browser.test_board_looks import LOOKS, SIZES, axe, inspect
from tests.support.documentation import site
from tests.support.drawn import drawn
from tests.support.harness import Server
from tests.support.wire import unique

__all__ = ["axe"]  # a fixture
PAGES = ("/", "/docs/", "/docs/guide/concepts.html", "/docs/operate/settings.html", "/docs/errors", "/docs/nowhere")


@pytest.fixture(scope="module")
def documented(workspace: Path) -> Iterator[Server]:
    """A server with the documentation."""
    site()
    SCREENSHOTS.mkdir(exist_ok=True)
    with Server(workspace / unique("documented")) as running:
        yield running


@pytest_asyncio.fixture
async def reader(request: pytest.FixtureRequest, visitor: Visit, documented: Server) -> AsyncIterator[tuple[Page, str]]:
    """A page that has not been anywhere, and the server's address. Whatever a policy kept from it is a failure."""
    scheme, size = getattr(request, "param", ("light", "desktop"))
    reading = await visitor(documented, color_scheme=scheme, viewport=SIZES[size], reduced_motion="reduce")
    page, refused = await reading.context.new_page(), list[str]()
    page.on("console", lambda said: refused.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("pageerror", lambda error: refused.append(str(error)))
    yield page, reading.url
    assert refused == []


@drawn
@pytest.mark.parametrize("reader", LOOKS, ids="-".join, indirect=True)
async def test_everybody_can_read_each_kind_of_page(reader: tuple[Page, str], axe: str) -> None:
    page, url = reader
    for number, path in enumerate(PAGES):
        await page.goto(url + path)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        scheme = await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
        await inspect(page, axe, f"docs-{scheme}-{page.viewport_size['width']}-{number}")  # type: ignore[index]


async def test_the_first_page_is_gone_through_by_keyboard(reader: tuple[Page, str]) -> None:
    page, url = reader
    await page.goto(f"{url}/")
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.getAttribute('href')") == "/docs/tutorial.html":
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Tutorial")


async def test_the_documentation_is_searched(reader: tuple[Page, str]) -> None:
    page, url = reader
    await page.goto(f"{url}/docs/")
    await page.get_by_role("textbox", name="Search").fill("tombstone")
    await page.keyboard.press("Enter")
    await expect(page.locator("#search-results li").first).to_be_visible()


async def test_the_choice_of_light_or_dark_stays(reader: tuple[Page, str]) -> None:
    page, url = reader
    await page.goto(f"{url}/docs/")
    await page.locator(".theme-toggle").locator("visible=true").first.click()
    chosen = await page.evaluate("document.body.dataset.theme")
    await page.goto(f"{url}/docs/tutorial.html")
    assert chosen in ("light", "dark")
    assert await page.evaluate("document.body.dataset.theme") == chosen
