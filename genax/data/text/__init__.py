"""Texts as rows of tokens."""
