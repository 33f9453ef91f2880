"""Exact scoring and ranking: pure functions on NumPy arrays."""
