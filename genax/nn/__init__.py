"""Layers that two or more chapters use."""
