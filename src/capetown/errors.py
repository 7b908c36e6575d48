"""The one exception that a user is meant to read."""


class CapetownError(Exception):
    """An error of the user's: what is wrong, where, and what to do about it, in one line.

    Stages and the command line print it without a traceback and exit with status 1.
    """


def one_line(error: BaseException, limit: int = 200) -> str:
    """An error's text in a line of `limit` characters at most, with its type if it has no word."""
    text = " ".join(str(error).split())[:limit]
    if any(letter.isalpha() for letter in text):
        return text
    return f"{type(error).__name__} {text}".strip()
