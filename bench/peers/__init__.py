"""The peers: other servers that keep what devices write, as they are shipped, each with a proof that it does."""
