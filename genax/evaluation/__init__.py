"""Scores of what models make, and pictures of it."""
