"""The parts of a module of Python types that are the same for all tables, or are made of the tables' names. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from syncd.service.type_names import TableTypeNames, python_text

HEAD = """\
from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Literal, Never, Protocol, Required, TypeAlias, TypedDict, TypeVar, overload

from syncd_client import AsyncReplica, Batch, Replica
from syncd_client.condition import AnyCondition

Answer = TypeVar("Answer", covariant=True)
Default = TypeVar("Default")

TextOperators = TypedDict("TextOperators", {
    "=": "str | None", "!=": "str | None", "in": "Sequence[str | None]", "<": str, "<=": str, ">": str, ">=": str,
    "contains": str, "startsWith": str, "like": str, "between": "Sequence[str]",
}, total=False)
NumberOperators = TypedDict("NumberOperators", {
    "=": "float | None", "!=": "float | None", "in": "Sequence[float | None]", "<": float, "<=": float, ">": float,
    ">=": float, "between": "Sequence[float]",
}, total=False)
ListOperators = TypedDict("ListOperators", {"=": Any, "!=": Any, "in": "Sequence[Any]", "contains": Any}, total=False)
OtherOperators = TypedDict("OtherOperators", {"=": Any, "!=": Any, "in": "Sequence[Any]"}, total=False)
TextCondition: TypeAlias = tuple[
    Literal["=", "!=", "in", "<", "<=", ">", ">=", "contains", "startsWith", "like", "between"],
    str | Sequence[str | None] | None,
]
NumberCondition: TypeAlias = tuple[
    Literal["=", "!=", "in", "<", "<=", ">", ">=", "between"], float | Sequence[float | None] | None
]
ListCondition: TypeAlias = tuple[Literal["=", "!=", "in", "contains"], Any]
OtherCondition: TypeAlias = tuple[Literal["=", "!=", "in"], Any]
"""
# What types of tables are not called, because the module has it already.
RESERVED = (
    "Answer", "Any", "AnyCondition", "AsyncReplica", "AsyncTables", "Batch", "Callable", "Coroutine", "Default",
    "False", "Iterator", "ListCondition", "ListOperators", "Literal", "Mapping", "Never", "None", "NumberCondition",
    "NumberOperators", "OtherCondition", "OtherOperators", "Protocol", "Replica", "Required", "Sequence", "TableName",
    "TableWrites", "Tables", "TextCondition", "TextOperators", "True", "TypeAlias", "TypedDict", "TypeVar",
)  # fmt: skip
RECORD = """\
    @property
    def id(self) -> str: ...
    @property
    def table(self) -> str: ...
    @property
    def space(self) -> str | None: ...
    @property
    def deleted_at(self) -> str | None: ...
    @property
    def included(self) -> Mapping[str, Any]: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def __contains__(self, field: object, /) -> bool: ...
"""
TAIL = '''\
@overload
def typed(of: Replica) -> Tables: ...
@overload
def typed(of: AsyncReplica) -> AsyncTables: ...
@overload
def typed(of: Batch) -> TableWrites[None]: ...
def typed(of: Any) -> Any:
    """The same replica or batch, as one that has these tables."""
    return of
'''


def overloaded(methods: Sequence[str]) -> str:
    """Methods of a protocol, of one name."""
    mark = "    @overload\n" if len(methods) > 1 else ""
    return "".join(f"{mark}    {method}\n" for method in methods)


def writes(named: Sequence[TableTypeNames]) -> str:
    """The protocol of what writes: `Answer` is a changeId, one to be awaited, or nothing."""
    rows = ", ".join(python_text(one.table) for one in named)
    put = [
        f"def put(self, table: {_only(one)}, id: str, fields: {one.fields}, *, space: str | None = None) -> Answer: ..."
        for one in named
    ]
    more = "*, space: str | None = None, upsert: bool = False"
    patch = [
        f"def patch(self, table: {_only(one)}, id: str, fields: {one.fields}, {more}) -> Answer: ..." for one in named
    ]
    others = [
        f"    def {name}(self, table: TableName, id: str, {more}) -> Answer: ...\n" for name in ("delete", "undelete")
    ]
    head = f"TableName: TypeAlias = Literal[{rows}]\n\n\nclass TableWrites(Protocol[Answer]):\n"
    return "".join([head, overloaded(put), overloaded(patch), *others])


def reads(named: Sequence[TableTypeNames], *, waits: bool) -> str:
    """The protocol of a replica. `waits`: of one whose answers are awaited."""
    name, answer, how = ("AsyncTables", "Coroutine[Any, Any, str]", "async ") if waits else ("Tables", "str", "")
    got = [
        f"{how}def get(self, table: {_only(one)}, id: str, *, space: str | None = None, deleted: bool = False)"
        f" -> {one.record} | None: ..."
        for one in named
    ]
    found = [
        f"{how}def query(self, table: {_only(one)}, where: {one.where} | Sequence[tuple[str, str, Any]] | AnyCondition"
        f" = ..., *, order: {one.order} | Sequence[{one.order}] = ..., limit: int | None = None, offset: int = 0,"
        f" after: {one.record} | None = None, space: str | None = None, deleted: bool = False)"
        f" -> list[{one.record}]: ..."
        for one in named
    ]
    changed = [
        f"{how}def update(self, table: {_only(one)}, id: str, change: Callable[[{one.record}], {one.fields}], *,"
        f" space: str | None = None) -> str: ..."
        for one in named
    ]
    body = f"{overloaded(got)}{overloaded(found)}{overloaded(changed)}"
    return f"class {name}(TableWrites[{answer}], Protocol):\n{body}"


def _only(one: TableTypeNames) -> str:
    return f"Literal[{python_text(one.table)}]"
