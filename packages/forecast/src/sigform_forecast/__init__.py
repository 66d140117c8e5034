"""sigform."""
