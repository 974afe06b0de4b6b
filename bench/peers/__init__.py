"""The peers: other servers that keep what devices write, as their projects ship them, each with a proof that it does."""
