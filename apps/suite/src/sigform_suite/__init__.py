"""The `sigform` command: every installed sigform domain behind one name."""
