"""The one exception that a user is meant to read."""


class CapetownError(Exception):
    """An error that a user can fix: what is wrong, where, and how to fix it, in one line.

    Stages and the command line print it without a traceback and exit with status 1. Tests compare
    the parts, so that the wording is free.

    Attributes:
        what: what is wrong.
        where: the file, row, key or tile; empty if it concerns none.
        fix: what to do; empty if `what` says it.
    """

    def __init__(self, what: str, *, where: object = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, str(where), fix
        place = f"{where}: " if self.where else ""
        remedy = f"; {fix}" if fix else ""
        super().__init__(f"{place}{what}{remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the parts when another process raises it."""
        return _rebuilt, (self.what, self.where, self.fix)


def _rebuilt(what: str, where: str, fix: str) -> CapetownError:
    return CapetownError(what, where=where, fix=fix)


def one_line(error: BaseException, limit: int = 200) -> str:
    """An error's text in one line of at most `limit` characters; its type if it has no text."""
    text = " ".join(str(error).split())[:limit]
    named = f"{type(error).__name__} {text}".strip()
    if type(error) in (IndexError, KeyError):
        # The text is at most a position or a name.
        return f"a part is missing ({named})"
    return text if any(letter.isalpha() for letter in text) else named
