"""Data in and out: exports, imports, what is brought from elsewhere."""
