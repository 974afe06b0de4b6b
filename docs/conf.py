"""How Sphinx makes the site: `make docs` (tools/docs.py) gathers the pages and calls it."""

from __future__ import annotations

from typing import Any

from pygments.lexers.special import TextLexer

project = "syncd"
html_title = "syncd"
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
html_theme = "furo"
html_theme_options = {"sidebar_hide_name": False, "navigation_with_keys": True}
html_show_copyright = html_show_sphinx = html_show_sourcelink = html_copy_source = False
html_use_index = html_domain_indices = False
html_static_path = ["static"]
html_css_files = ["syncd.css"]
highlight_language = "text"
exclude_patterns = ["static"]
# Text between braces in an address is no field of HTTP's, and a link to a file beside the pages is text already.
suppress_warnings = ["misc.highlighting_failure", "myst.header"]


def setup(app: Any) -> None:
    """Blocks in languages of our own, and one that stands for requests with placeholders, are text."""
    for name in ("http", "ws", "mermaid"):
        app.add_lexer(name, TextLexer)
