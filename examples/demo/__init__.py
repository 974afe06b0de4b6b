"""A repository's history replayed by devices that were offline: `python -m examples.demo`."""
