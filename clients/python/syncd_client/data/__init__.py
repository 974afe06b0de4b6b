"""Values and what is computed of them: instants, JSON, registers, changes, digests. Pure."""
