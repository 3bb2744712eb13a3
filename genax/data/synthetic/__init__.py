"""Data of synthetic tasks: a record is a function of its number, and nothing is stored."""
