"""What was: history, restores, compaction, the audit."""
