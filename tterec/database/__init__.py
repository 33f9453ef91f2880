"""Reaching a Postgres and keeping its schema."""
