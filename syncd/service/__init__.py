"""Performs one request each, and keeps live connections current. Knows the store and the protocol, not HTTP."""
