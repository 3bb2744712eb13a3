"""Environments that are played, and what was played in them."""
