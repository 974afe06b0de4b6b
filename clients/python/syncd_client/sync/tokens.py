"""The token: asked of the application within a deadline, checked before it is used, and repeated nowhere."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import NotAllowed, Offline, SyncdError
from .callbacks import Call, NoAnswer

Token = str | Callable[[], str | None] | Callable[[], Awaitable[str | None]]
LARGEST = 16 * 1024  # bytes: what a server takes

_VISIBLE = re.compile(r"[\x21-\x7e]+")


def claim(token: str, name: str) -> Any:
    """A claim of a JWT, unverified; None where there is none, or no JWT."""
    try:
        part = token.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))[name]
    except (IndexError, ValueError, KeyError, TypeError):
        return None


def subject(token: str) -> str | None:
    """The user that a JWT speaks for, unverified: only to keep two users out of one file."""
    user = claim(token, "sub")
    return user if isinstance(user, str) else None


def clean(given: str | None) -> str:
    """The token without the blanks and line ends around it, as it comes out of files and variables.

    Raises NotAllowed: `no_token` where there is none, `bad_token`, `token_too_large`.
    """
    token = (given or "").strip()
    if not token:
        raise NotAllowed("there is no token.", code="no_token")
    if len(token) > LARGEST:
        raise NotAllowed(
            f"the token has {len(token)} characters; a server takes {LARGEST}.",
            code="token_too_large",
            remedy="Let the server look memberships up instead of listing them in the token.",
        )
    if not _VISIBLE.fullmatch(token):
        raise NotAllowed("the token holds a blank, a line end or a letter that no header can carry.", code="bad_token")
    return token


class TokenSource:
    """The source of tokens: text, or a function of the application that gets `patience` seconds to answer.

    `claim_user` gets the user of each token, and raises WrongReplica for another than the file's. Both ways to ask
    raise NotAllowed where there is no token to be had without the user (`no_token`: the function gave none, raised
    NotAllowed, or gave no answer in time), Offline `no_token` where the function failed, TypeError where it gives
    something else than text.
    """

    def __init__(self, token: Token, patience: float, claim_user: Callable[[str], None]) -> None:
        self._token, self._patience, self._claim_user = token, patience, claim_user
        self._call: Call | None = None

    @property
    def renewable(self) -> bool:
        """Whether asking again may bring another token."""
        return callable(self._token)

    def ask(self) -> str:
        """The token now; stops the calling thread."""
        answer = self._token if isinstance(self._token, str) else self._ask(self._token)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError("token= must be text, or a callable that returns text; use AsyncReplica for async ones")
        return self._take(answer)

    def _ask(self, function: Callable[[], Any]) -> Any:
        try:
            return self._begun(function).result(self._patience)
        except Exception as error:
            raise self._explain(error) from _cause(error)

    def _begun(self, function: Callable[[], Any]) -> Call:
        """The function is not called a second time while it has not answered."""
        if self._call is None or self._call.over:
            self._call = Call(function)
        return self._call

    async def ask_async(self) -> str:
        """The token now, from text, a function or an async function; the loop goes on meanwhile."""
        answer = self._token if isinstance(self._token, str) else await self._ask_async(self._token)
        token = self._take(answer, check=False)
        await asyncio.to_thread(self._check_user, token)
        return token

    async def _ask_async(self, function: Callable[[], Any]) -> Any:
        try:
            async with asyncio.timeout(self._patience) as deadline:
                if inspect.iscoroutinefunction(function):
                    return await function()
                answer = await self._begun(function).result_async()
                return await answer if inspect.isawaitable(answer) else answer
        except TimeoutError as error:
            failure = NoAnswer() if deadline.expired() else error
            raise self._explain(failure) from _cause(failure)
        except Exception as error:
            raise self._explain(error) from _cause(error)

    def _take(self, answer: Any, *, check: bool = True) -> str:
        if not isinstance(answer, str | None):
            raise TypeError(f"token= must be or return text, not {type(answer).__name__}")
        token = clean(answer)
        if check:
            self._check_user(token)
        return token

    def _check_user(self, token: str) -> None:
        user = subject(token)
        if user is not None:
            self._claim_user(user)

    def _explain(self, error: Exception) -> SyncdError:
        match error:
            case NoAnswer():
                return NotAllowed(f"the token function gave no answer in {self._patience:g} s.", code="no_token")
            case NotAllowed():
                return NotAllowed(error.detail, code="no_token")
            case SyncdError():
                return error
            case _:
                return Offline(f"the token function failed ({type(error).__name__}).", code="no_token")


def _cause(error: Exception) -> Exception | None:
    """The application's own exception, for the application; nothing of it is repeated."""
    return None if isinstance(error, SyncdError | NoAnswer) else error
