"""A finding of a check: one sentence, and the command that fixes it."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["ok", "warn", "FAIL"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of `syncd doctor`; `remedy` is empty where nothing is to be done."""

    check: str
    status: Status
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", detail)


def warn(check: str, detail: str, remedy: str = "") -> Finding:
    """It works, and something should be known."""
    return Finding(check, "warn", detail, remedy)


def fail(check: str, detail: str, remedy: str) -> Finding:
    """A promise is not kept as things stand."""
    return Finding(check, "FAIL", detail, remedy)
