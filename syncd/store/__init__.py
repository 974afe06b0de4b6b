"""One call to the database each: the log, live reads, spaces, history, digests, exports, compaction."""
