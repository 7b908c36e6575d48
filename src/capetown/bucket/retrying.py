"""Trying again: what is worth it, how long to wait, and how often."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from capetown.errors import CapetownError

T = TypeVar("T")

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
# S3's own names for "try again" that come with a status that does not say so.
PASSING = {"RequestTimeout", "SlowDown", "OperationAborted", "ThrottlingException"}


class DamagedError(Exception):
    """An object arrived damaged: it may be better the next time."""


class ExhaustedError(CapetownError):
    """It was tried often enough."""


async def retry(action: Callable[[], Awaitable[T]], tries: int, retried: Callable[[], None]) -> T:
    """Do something up to `tries` times, with growing random waits between.

    The waits are the "full jitter" of AWS's architecture blog: many clients that failed at the
    same moment do not come back at the same moment.

    Args:
        action: what to do.
        tries: how often at most.
        retried: called before each wait.

    Raises:
        ExhaustedError: if the last try failed too, for a reason that may pass.
        Exception: whatever the action raised, if another try would be no better.
    """
    for attempt in range(tries):
        if attempt:
            retried()
            await asyncio.sleep(random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)))
        try:
            return await action()
        except Exception as error:
            if not worth_retrying(error):
                raise
            last = error
    raise ExhaustedError(f"{reason(last)} ({tries} tries)") from last


def failures() -> tuple[type[Exception], ...]:
    """Every kind of exception by which a file, a network or a server fails.

    The network libraries are imported here, when something has failed, because a local source
    does not need them and they take half a second.
    """
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, DamagedError, CapetownError, aiohttp.ClientError, BotoCoreError, ClientError)


def worth_retrying(error: BaseException) -> bool:
    """True if the same request may well succeed a little later."""
    import aiohttp
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    # s3fs and fsspec raise an OSError in the place of the answer that says what happened.
    for each in (error, error.__cause__):
        if isinstance(each, exceptions.ClientError):
            status = each.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return _passing(status) or each.response.get("Error", {}).get("Code") in PASSING
        if isinstance(each, aiohttp.ClientResponseError):
            return _passing(each.status)
        passing = (
            DamagedError,
            TimeoutError,
            ConnectionError,
            exceptions.ConnectionError,
            exceptions.FlexibleChecksumError,
            exceptions.HTTPClientError,
            exceptions.IncompleteReadError,
            ResponseParserError,
            aiohttp.ClientError,
        )
        if isinstance(each, passing):
            return True
    return False


def reason(error: BaseException) -> str:
    """An exception's text, in one line of at most 200 characters."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    said = " ".join(str(cause or error).split()) or type(error).__name__
    return said if len(said) <= 200 else f"{said[:197]}..."


def _passing(status: int) -> bool:
    return status >= 500 or status in (408, 429)
