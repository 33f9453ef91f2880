"""The two towers: everything that speaks torch."""
