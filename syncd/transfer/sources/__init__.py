"""Other stores, read row by row into changes: SQLite, CSV, JSON lines, the first generation's log."""
