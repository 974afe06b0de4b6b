"""Live connections of one process: who listens to what, and what makes them hear."""
