"""Search in a real Chromium: an index in memory over a real IndexedDB, of two tabs."""

from __future__ import annotations

from tests.browser.conftest import OpenTab, Visit
from tests.browser.visitor import Tab
from tests.support.wire import unique

SEARCH = {"search": {"notes": ["title", "body"]}}
FILL = """async () => {
  for (let first = 0; first < 2000; first += 200)
    await replica.batch((batch) => {
      for (let n = first; n < first + 200; n++)
        batch.put("notes", `n${n}`, { title: `note ${n}`, body: n % 500 ? "green pear" : "red apple" })
    })
}"""


async def found(tab: Tab, text: str) -> list[str]:
    ids: list[str] = await tab.page.evaluate("text => found('notes', text)", text)
    return ids


async def test_it_follows_what_both_tabs_write(visitor: Visit, tab: OpenTab) -> None:
    user, guest = unique("user"), await visitor()
    one, other = await tab(guest), await tab(guest)
    for page in (one, other):
        await page.open(user, live=False, **SEARCH)
    await one.page.evaluate(FILL)
    assert await found(one, "red app") == ["n0", "n1000", "n1500", "n500"]
    await other.eventually("async () => (await found('notes', 'red apple')).length === 4")
    assert await found(other, "note 1999") == ["n1999"]

    await one.call("patch", "notes", "n0", {"body": "a red plum"})
    await one.call("delete", "notes", "n1000")
    assert await found(one, "red") == ["n0", "n1500", "n500"]
    assert await found(other, "apple") == ["n1500", "n500"], "whether it has been told or not"
    await other.eventually("async () => (await found('notes', 'plum')).length === 1")

    await one.page.evaluate("""() => {
      window.told = []
      search(replica, "notes", "quince").subscribe((rows) => told.push(rows.map(({ id }) => id)))
    }""")
    await other.call("put", "notes", "q", {"title": "Quince"})
    await one.eventually("JSON.stringify(told.at(-1)) === '[\"q\"]'")
    await other.page.close()

    await one.call("close")
    await one.open(user, live=False, **SEARCH)
    assert await found(one, "quince") == ["q"]
