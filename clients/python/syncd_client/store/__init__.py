"""The SQLite file: records, the queue of what is unsent, and the lock of whoever syncs it."""
