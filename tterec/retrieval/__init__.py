"""Candidate indexes behind one small interface."""
