"""`python -m syncd.settings`: the table in docs/operate/settings.md."""

from syncd.settings import markdown

print(markdown(), end="")
