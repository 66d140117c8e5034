"""Separate the speakers of a recording."""
