"""Data in and out: exports, archives, and imports of exports and of other stores' rows."""
