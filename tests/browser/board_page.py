"""The demonstration board as a person uses it, by what a screen reader says (see examples/board/TESTING.md)."""

from __future__ import annotations

import re

from playwright.async_api import Locator, Page, WebSocket, expect

from tests.browser.visitor import Visitor


class BoardPage:
    """One tab with the board."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, f"{url}/demo/"
        self._sockets: list[WebSocket] = []
        page.on("websocket", lambda socket: self._sockets.append(socket))

    @classmethod
    async def open(cls, visitor: Visitor, name: str | None = None) -> BoardPage:
        """A new tab of this visitor; signs in where a name is given."""
        board = cls(await visitor.context.new_page(), visitor.url)
        await board.page.goto(board.url)
        if name is not None:
            await board.sign_in(name)
        return board

    @property
    def connections(self) -> int:
        """How many sockets this tab has open."""
        return sum(not socket.is_closed() for socket in self._sockets)

    async def sign_in(self, name: str) -> None:
        await self.page.get_by_role("textbox", name="Your name").fill(name)
        await self.page.get_by_role("button", name="Join the board").click()
        await self.is_live()
        await expect(self.list("Done")).to_be_visible()

    # -- where things are --------------------------------------------------------------------------

    def list(self, title: str) -> Locator:
        return self.page.get_by_role("region", name=title, exact=True)

    def card(self, title: str, where: str | None = None) -> Locator:
        """Its button, in any list or in that one: named by its title, and then by its badges."""
        place = self.page.get_by_role("main") if where is None else self.list(where)
        return place.get_by_role("button", name=re.compile(f"^{re.escape(title)}( |$)"))

    @property
    def connection(self) -> Locator:
        return self.page.get_by_role("status", name="Connection")

    def figure(self, name: str) -> Locator:
        """A number of the strip: pending, synced, rejected or conflicts."""
        return self.page.get_by_test_id(name)

    # -- what a person does ------------------------------------------------------------------------

    async def add_card(self, title: str, where: str = "Doing") -> None:
        column = self.list(where)
        await column.get_by_role("button", name="Add a card").click()
        field = column.get_by_role("textbox", name="Title of the new card")
        await field.fill(title)
        await field.press("Enter")
        await field.press("Escape")
        await expect(self.card(title)).to_be_visible()

    async def open_card(self, title: str) -> Locator:
        """Its dialog."""
        await self.card(title).click()
        dialog = self.page.get_by_role("dialog", name=title, exact=True)
        await expect(dialog).to_be_visible()
        return dialog

    async def edit_card(self, title: str, *, description: str | None = None, label: str | None = None) -> None:
        """Edits fields in the dialog, and closes it."""
        dialog = await self.open_card(title)
        if description is not None:
            field = dialog.get_by_role("textbox", name="Description")
            await field.fill(description)
            await field.blur()
        if label is not None:
            box = dialog.get_by_role("checkbox", name=label, exact=True)
            await box.click()
            await expect(box).to_be_checked()  # once it is in the store
        await dialog.get_by_role("button", name="Close", exact=True).click()
        await expect(dialog).to_be_hidden()

    async def switch_offline(self, offline: bool) -> None:
        """The page's own switch."""
        await self.page.get_by_role("switch", name="Offline").set_checked(offline)

    # -- what is to be seen ------------------------------------------------------------------------

    async def is_live(self) -> None:
        await expect(self.connection).to_have_text("Live", timeout=180_000)

    async def is_cut_off(self) -> None:
        await expect(self.connection).to_have_text(re.compile("Offline|No connection"), timeout=180_000)

    async def is_synced(self) -> None:
        """Live, and nothing waits."""
        await self.is_live()
        await expect(self.figure("pending")).to_have_text("0", timeout=180_000)

    async def shows(self, title: str, *, description: str, label: str) -> None:
        """A card's fields, as its dialog shows them."""
        dialog = await self.open_card(title)
        await expect(dialog.get_by_role("textbox", name="Description")).to_have_value(description)
        await expect(dialog.get_by_role("checkbox", name=label, exact=True)).to_be_checked()
        await dialog.get_by_role("button", name="Close", exact=True).click()
        await expect(dialog).to_be_hidden()
