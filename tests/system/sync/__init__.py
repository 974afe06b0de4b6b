"""Pushes and pulls through a real server: what is written, who reads it, in what order."""
