"""A page on this machine over the installed sigform domains."""
