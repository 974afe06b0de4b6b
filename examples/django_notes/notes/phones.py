"""A caller is known by the token that a phone keeps, which Django signed, or by the session of a page."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core import signing
from django.db import close_old_connections
from django.utils.crypto import constant_time_compare

from syncd.asgi import Principal
from syncd.django.callers import session_user

SALT = "phone"


def token(user: Any) -> str:
    """For a phone to keep. It ends when the password is changed."""
    return str(signing.dumps([user.pk, user.get_session_auth_hash()], salt=SALT))


def caller(scope: Any) -> Principal | None:
    """`authenticate` of SYNCD, which calls it in a thread: a user by primary key, None for nobody."""
    said = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    try:
        key, password = signing.loads(said.removeprefix("Bearer "), salt=SALT)
    except signing.BadSignature:
        return session_user(scope)
    close_old_connections()
    try:
        user = get_user_model().objects.filter(pk=key, is_active=True).first()
        known = user is not None and constant_time_compare(password, user.get_session_auth_hash())
        return Principal(str(key)) if known else None
    finally:
        close_old_connections()
