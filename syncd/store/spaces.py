"""Spaces and memberships in the database: every call is one transaction as one user."""

from __future__ import annotations

from typing import Any, NamedTuple

from syncd.postgres.contexts import ActingUser, bound
from syncd.postgres.statements import statement
from syncd.store.pool import Pool


class SpaceRow(NamedTuple):
    id: str
    name: str
    role: str
    created_us: int


class MemberRow(NamedTuple):
    """A member, or who was invited: then `joined_us` is None and the others are not."""

    user_id: str
    role: str
    joined_us: int | None
    invited_by: str | None
    invited_us: int | None


class InvitationRow(NamedTuple):
    space_id: str
    name: str
    role: str
    invited_by: str
    invited_us: int


class BlockRow(NamedTuple):
    user_id: str
    blocked_us: int


class Spaces:
    """Runs a statement as a user. Raises Refusal (SY010) with the refusal's code as message."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def call(self, user: str, adopt: tuple[str, int] | None, name: str, *arguments: Any, add: bool) -> list[Any]:
        """`adopt`: a membership list as JSON text and its age; `add`: the user may be new."""

        async def work(connection: Any) -> list[Any]:
            async with connection.transaction():
                await connection.execute(
                    statement("act_as"), *bound(connection, ActingUser(user), add or adopt is not None)
                )
                if adopt is not None:
                    await connection.execute(statement("adopt"), *adopt)
                return list(await connection.fetch(statement(name), *arguments))

        return await self._pool.attempt(work)
