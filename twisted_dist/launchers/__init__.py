"""Starting networks: command lines and processes, never services."""
