"""There are none. Django says that it has migrated to apps that have such a module."""
