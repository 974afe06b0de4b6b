"""Performs one request each. Knows the store and the protocol, not HTTP."""
