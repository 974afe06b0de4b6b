"""The OpenAPI document."""

from __future__ import annotations

from typing import Any


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    return {"openapi": "3.1.0", "info": {"title": "syncd", "version": version}, "paths": {}}
