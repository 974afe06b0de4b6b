"""Syncing over HTTP: what to send next, what an answer changes, and the transport that performs it."""
