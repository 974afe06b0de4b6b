"""Bytes to messages and back, thin: HTTP, tokens, problems."""
