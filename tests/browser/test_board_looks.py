"""What the board looks like, for a person to look at, and for axe: light and dark, on a desk and on a small phone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.board_page import BoardPage
from tests.browser.conftest import HERE, SCREENSHOTS, MakeVisitor
from tests.support import node
from tests.support.drawn import SOAK, drawn
from tests.support.wire import unique

SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 360, "height": 740}}
SCHEMES = ("light", "dark")
# Colours go by the scheme and places by the size: each is seen, and in a soak each with each.
LOOKS = [(scheme, size) for scheme in SCHEMES for size in SIZES] if SOAK else [*zip(SCHEMES, SIZES, strict=True)]


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core, as a script."""
    return (node.packages(HERE) / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module", autouse=True)
def screenshots() -> Iterator[Path]:
    SCREENSHOTS.mkdir(exist_ok=True)
    yield SCREENSHOTS
    print(f"\nscreenshots to look at: {SCREENSHOTS}")


@pytest_asyncio.fixture(params=LOOKS, ids="-".join)
async def look(request: pytest.FixtureRequest, guest: MakeVisitor) -> AsyncIterator[tuple[BoardPage, str]]:
    """The sign-in page, as this scheme and size show it, and the look's name."""
    scheme, size = request.param
    touch = size == "phone"
    visitor = await guest(color_scheme=scheme, viewport=SIZES[size], has_touch=touch, reduced_motion="reduce")
    yield await BoardPage.open(visitor), f"{scheme}-{size}"


async def inspect(page: Page, axe: str, name: str) -> None:
    """Takes a picture, and asks axe. Nothing is wider than the screen, and nothing keeps anybody out."""
    await page.screenshot(path=SCREENSHOTS / f"{name}.png")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
    await page.evaluate(axe)
    found: dict[str, Any] = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    grave = [
        f"{fault['id']}: {fault['help']}\n  " + "\n  ".join(node["html"][:300] for node in fault["nodes"])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert not grave, f"{name}:\n" + "\n".join(grave)


@drawn
async def test_everybody_can_use_each_part_of_the_board(look: tuple[BoardPage, str], axe: str) -> None:
    board, name = look
    page = board.page
    await expect(page.get_by_role("button", name="Join the board")).to_be_visible()
    await inspect(page, axe, f"{name}-1-sign-in")
    await board.sign_in(unique("Ida")[:10])
    await inspect(page, axe, f"{name}-2-board")
    title = "Switch one of them offline"
    dialog = await board.open_card(title)
    await dialog.get_by_role("textbox", name="Comment").fill("How does it look?")
    await dialog.get_by_role("button", name="Send").click()
    await expect(dialog.get_by_role("list", name="Comments")).to_contain_text("How does it look?")
    await dialog.get_by_role("button", name="History").click()
    await expect(dialog.get_by_role("region", name="History").get_by_role("listitem").first).to_be_visible()
    await inspect(page, axe, f"{name}-3-card")
    await dialog.get_by_role("button", name="Close", exact=True).click()

    await board.switch_offline(True)
    await board.edit_card(title, description=f"Edited offline: {name}")
    await inspect(page, axe, f"{name}-4-offline")
    await board.figure("pending").click()
    details = page.get_by_role("dialog", name="Sync details")
    await expect(details.get_by_role("list", name="Waiting").get_by_role("listitem")).to_have_count(1)
    await inspect(page, axe, f"{name}-5-details")
    await details.get_by_role("button", name="Close", exact=True).click()
    await board.switch_offline(False)
    await board.is_synced()
