"""Processes, settings, the command line and the documents that show them."""
