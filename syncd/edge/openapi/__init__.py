"""The OpenAPI document, a subject a file."""

from syncd.edge.openapi.document import document

__all__ = ["document"]
