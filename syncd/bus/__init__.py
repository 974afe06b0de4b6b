"""Hints between worker processes: what they are, and the link that carries them (PostgreSQL or NATS)."""
