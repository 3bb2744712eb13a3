"""The error that a user can act on."""


class GenaxError(Exception):
    """What was wrong, where, and what to do, in one sentence; the command line prints just that."""


def reason(error: BaseException) -> str:
    """One line of what another library raised."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
