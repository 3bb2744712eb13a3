"""The error that a user can act on."""


class GenaxError(Exception):
    """What was wrong, where, and what to do, in one sentence; the command line prints just that."""
