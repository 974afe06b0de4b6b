"""A live sync: one socket after another, and the events that it brings."""
