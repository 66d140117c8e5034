"""Decode EEG."""
