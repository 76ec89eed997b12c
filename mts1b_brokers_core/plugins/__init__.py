"""Finding, judging and calling the installed broker plugins."""
