"""The demonstration board, served by `syncd serve --demo`, as people use it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Playwright, expect

from tests.browser import chromium
from tests.browser.board_page import BoardPage
from tests.browser.conftest import WINDOW, Cards, MakeVisitor
from tests.browser.visitor import Visitor
from tests.support.harness import Server
from tests.support.proxy import Proxy
from tests.support.wire import unique


def remove(demo: Server, user: str) -> None:
    """The board's owner puts somebody out."""
    headers = {"authorization": f"Bearer {demo.token('demo:host')}"}
    httpx.delete(f"{demo.url}/spaces/demo-board/members/{user}", headers=headers).raise_for_status()


async def eventually(is_so: Callable[[], bool], patience: float = 60.0) -> None:
    """Waits until something outside the browser is so."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("how", ["network", "switch"])
async def test_two_windows_one_offline_edit_the_same_card_and_show_the_same(
    guest: MakeVisitor, cards: Cards, how: str
) -> None:
    title, ann_browser = unique("Card"), await guest()
    ann, bob = await BoardPage.open(ann_browser, "Ann"), await BoardPage.open(await guest(), "Bob")
    await ann.add_card(title)
    await expect(bob.card(title)).to_be_visible()

    await (ann_browser.go_offline() if how == "network" else ann.switch_offline(True))
    await ann.is_cut_off()
    await ann.edit_card(title, description="Ann's, earlier", label="bug")
    await expect(ann.figure("pending")).to_have_text("2")
    await bob.edit_card(title, description="Bob's, later", label=None)
    await bob.is_synced()
    lost = int(await ann.figure("conflicts").inner_text())

    await (ann_browser.go_online() if how == "network" else ann.switch_offline(False))
    await ann.is_synced()
    for one in (ann, bob):
        await one.shows(title, description="Bob's, later", label="bug")
    await expect(ann.figure("conflicts")).to_have_text(str(lost + 1))
    assert (cards()[title]["description"], cards()[title]["labels"]) == ("Bob's, later", ["bug"])


async def test_the_board_is_reloaded_offline_with_all_that_was_written(guest: MakeVisitor, cards: Cards) -> None:
    title, visitor = unique("Card"), await guest()
    board = await BoardPage.open(visitor, "Cleo")
    await board.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    await visitor.go_offline()
    await board.add_card(title)
    await board.page.reload()
    await expect(board.card(title)).to_be_visible()
    await expect(board.figure("pending")).to_have_text("1")
    await board.edit_card(title, description="after the reload")
    await visitor.go_online()
    await board.is_synced()
    assert cards()[title]["description"] == "after the reload"


async def test_the_board_opens_while_the_server_is_down(guest: MakeVisitor, demo: Server, cards: Cards) -> None:
    title, visitor = unique("Card"), await guest()
    first = await BoardPage.open(visitor, "Dora")
    await first.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    await first.page.close()
    demo.stop()
    try:
        board = await BoardPage.open(visitor)
        await expect(board.list("Doing")).to_be_visible()
        await board.add_card(title)
        await expect(board.figure("pending")).to_have_text("1")
    finally:
        demo.start()
    await board.is_synced()
    assert title in cards()


async def test_a_browser_that_was_closed_with_edits_pending_sends_them_when_it_opens_again(
    playwright: Playwright, demo: Server, cards: Cards, folder: Path
) -> None:
    title, profile = unique("Card"), folder / "profile"
    launch = {**chromium.options(playwright), "viewport": WINDOW}
    async with Proxy(demo.port) as network:
        context = await playwright.chromium.launch_persistent_context(profile, **launch)
        visitor = Visitor(context, network)
        board = await BoardPage.open(visitor, "Eve")
        await visitor.go_offline()
        await board.add_card(title)
        await board.edit_card(title, description="pending")
        await expect(board.figure("pending")).to_have_text("2")
        await context.close()

        context = await playwright.chromium.launch_persistent_context(profile, **launch)
        visitor = Visitor(context, network)
        await visitor.go_online()
        board = await BoardPage.open(visitor)
        await expect(board.card(title)).to_be_visible()
        await board.is_synced()
        await context.close()
    assert cards()[title]["description"] == "pending"


async def test_two_tabs_of_a_user_share_a_connection_and_the_other_takes_it_over(guest: MakeVisitor) -> None:
    title, visitor = unique("Card"), await guest()
    first, second = await BoardPage.open(visitor, "Finn"), await BoardPage.open(visitor)
    await second.is_live()
    assert (first.connections, second.connections) == (1, 0)
    await second.add_card(title)
    await expect(first.card(title)).to_be_visible()
    await second.is_synced()
    await first.page.close()
    await second.is_live()
    await second.edit_card(title, description="as the one that leads")
    await second.is_synced()
    assert second.connections == 1


async def test_who_is_removed_while_looking_loses_the_board_and_may_join_again(
    guest: MakeVisitor, demo: Server
) -> None:
    board = await BoardPage.open(await guest(), "Gina")
    remove(demo, "demo:Gina")
    alert = board.page.get_by_role("alert").filter(has_text="removed")
    await expect(alert).to_be_visible()
    await expect(board.list("Doing")).to_be_hidden()
    kept = await board.page.evaluate(
        """() => new Promise((resolve) => {
          indexedDB.open("syncd:board:demo:Gina").onsuccess = ({ target }) => {
            const count = target.result.transaction("records").objectStore("records").count();
            count.onsuccess = () => { target.result.close(); resolve(count.result); };
          };
        })"""
    )
    assert kept == 0
    await alert.get_by_role("button", name="Join again").click()
    await expect(board.list("Doing")).to_be_visible()
    await board.is_synced()


async def test_a_card_is_made_moved_and_edited_with_the_keyboard_alone(guest: MakeVisitor, cards: Cards) -> None:
    title, visitor = unique("Card"), await guest()
    board = await BoardPage.open(visitor)
    keyboard = board.page.keyboard
    # The field has the focus as soon as it is there.
    await expect(board.page.get_by_role("textbox", name="Your name")).to_be_focused()
    await keyboard.type("Hana")
    await keyboard.press("Enter")
    await board.is_live()

    column = board.list("To do")
    await reach(board, column.get_by_role("button", name="Add a card"))
    await keyboard.press("Enter")
    await keyboard.type(title)
    await keyboard.press("Enter")
    await keyboard.press("Escape")
    await reach(board, board.card(title), backwards=True)
    await keyboard.press("Alt+ArrowRight")
    await expect(board.card(title, "Doing")).to_be_focused()
    await expect(board.page.get_by_test_id("announcer")).to_contain_text("Doing")
    await keyboard.press("Alt+ArrowUp")
    await expect(board.card(title)).to_be_focused()

    await keyboard.press("Enter")
    dialog = board.page.get_by_role("dialog", name=title, exact=True)
    await expect(dialog).to_be_visible()
    await reach(board, dialog.get_by_role("textbox", name="Description"))
    await keyboard.type("typed")
    await keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(board.card(title)).to_be_focused()
    await eventually(lambda: cards()[title].get("description") == "typed")


async def reach(board: BoardPage, goal: Any, *, backwards: bool = False) -> None:
    """Presses Tab until the focus is there."""
    for _ in range(80):
        if await goal.evaluate("element => element === document.activeElement"):
            return
        await board.page.keyboard.press("Shift+Tab" if backwards else "Tab")
    raise AssertionError(f"Tab does not lead to {goal}")


async def test_a_title_is_typed_fast_in_its_middle_and_nothing_is_lost(guest: MakeVisitor, cards: Cards) -> None:
    title, text = unique("Card"), "the quick brown fox "
    ann, bob = await BoardPage.open(await guest(), "Ida"), await BoardPage.open(await guest(), "Jon")
    await ann.add_card(title)
    await ann.open_card(title)  # which is called as the card is, whatever that is by now
    field = ann.page.get_by_role("dialog").get_by_role("textbox", name="Title", exact=True)
    await field.evaluate("input => { input.focus(); input.setSelectionRange(0, 0) }")
    for letter in text:  # each as a key of its own; the pauses are those of the test's own line to the browser
        await ann.page.keyboard.press("Space" if letter == " " else letter)
        await field.evaluate("input => new Promise(requestAnimationFrame)")
    assert await field.input_value() == text + title
    assert await field.evaluate("input => input.selectionStart") == len(text)
    await eventually(lambda: text + title in cards())
    await expect(bob.card(text + title)).to_be_visible()
    assert await field.evaluate("input => input.selectionStart") == len(text)
    await ann.page.keyboard.type("jumps over ", delay=1)
    await ann.page.keyboard.press("Escape")  # it is gone in the pause
    await expect(bob.card(f"{text}jumps over {title}")).to_be_visible()
