"""Data sets of a user's own files, one reader a form."""
