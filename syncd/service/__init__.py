"""Performs: push, pull, spaces. Knows the store and the protocol, not HTTP."""
