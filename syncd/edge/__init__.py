"""Bytes to messages and back, thin: HTTP, sockets, streams, tokens, problems."""
