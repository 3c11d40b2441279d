"""Faster routes to the three conv functions, and the buffer pool."""
