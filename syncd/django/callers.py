"""Django's signed-in user as the caller of a request or a WebSocket."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

from django.conf import settings as project
from django.contrib.auth import get_user
from django.db import close_old_connections
from django.http import parse_cookie

from syncd.asgi import Principal


def session_user(scope: Any) -> Principal | None:
    """What `request.user` would be in a view: the user of the session whose cookie came along, by primary key; None for
    nobody. To be called in a thread, since it asks Django's database."""
    cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
    key = parse_cookie(cookies.decode("latin-1")).get(project.SESSION_COOKIE_NAME)
    if not key or not key.isprintable():  # a cookie may spell any character, and no database takes all in a key
        return None
    close_old_connections()
    try:
        session = import_module(project.SESSION_ENGINE).SessionStore(key)
        # A session is looked at and not touched: no answer of syncd's would tell the browser its new name.
        session.cycle_key = session.flush = lambda: None
        user = get_user(SimpleNamespace(session=session))
        return Principal(str(user.pk)) if user.is_authenticated else None
    finally:
        close_old_connections()
