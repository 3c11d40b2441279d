"""Many attacks on one model, and a verdict in words."""
