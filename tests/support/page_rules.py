"""The rules of docs/guide/rules.md, for the server that the guides' code talks to: what the page says first."""

from __future__ import annotations

import re

from tests.support.programs import REPOSITORY

_PAGE = (REPOSITORY / "docs/guide/rules.md").read_text(encoding="utf-8")
_CODE = re.search(r"^```python\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
assert _CODE is not None
exec(compile(_CODE[1], "docs/guide/rules.md", "exec"))
