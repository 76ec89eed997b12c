"""The `mts` command."""
