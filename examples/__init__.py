"""Small things that run: `make demo`, `python examples/todo.py`."""
