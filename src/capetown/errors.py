"""The one exception that a user is meant to read."""


class CapetownError(Exception):
    """An error of the user's: what is wrong, where, and what to do about it, in one line.

    Stages and the command line print it without a traceback and exit with status 1.
    """
