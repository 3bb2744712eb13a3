"""Scores and pictures of samples."""
