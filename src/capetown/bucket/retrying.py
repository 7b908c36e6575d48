"""Retries: which failures are transient, and how long to wait."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from capetown.errors import CapetownError, one_line

log = logging.getLogger("capetown")
T = TypeVar("T")

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
TRANSIENT_STATUSES = {408, 429, *range(500, 600)}
# Error codes of S3 that mean "try again" although the HTTP status does not.
TRANSIENT_CODES = {"RequestTimeout", "SlowDown", "OperationAborted", "ThrottlingException"}


class DamagedError(Exception):
    """An object arrived damaged. Another try may help."""


class ExhaustedError(CapetownError):
    """The last try failed as well."""


async def retry(action: Callable[[], Awaitable[T]], tries: int) -> T:
    """Do something up to `tries` times, with growing random waits in between.

    The waits follow the "full jitter" of AWS's architecture blog: clients that failed at the same
    moment do not all return at the same moment.

    Raises:
        ExhaustedError: every try failed, and the last failure was transient.
        Exception: any failure that another try would not change.
    """
    for attempt in range(1, tries + 1):
        try:
            return await action()
        except Exception as error:
            if not is_transient(error):
                raise
            if attempt == tries:
                raise ExhaustedError(f"{reason(error)} ({tries} tries)") from error
            log.info("trying again: %s", reason(error))
        await asyncio.sleep(random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)))
    raise AssertionError


def failures() -> tuple[type[Exception], ...]:
    """The exceptions that a failing file, network or server raises.

    The network libraries take half a second to import. A local source does not need them.
    """
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, DamagedError, CapetownError, aiohttp.ClientError, BotoCoreError, ClientError)


def is_transient(error: BaseException) -> bool:
    """True if the same request may succeed a little later."""
    import aiohttp
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    transient = (
        DamagedError, TimeoutError, ConnectionError, aiohttp.ClientError, ResponseParserError,
        exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError,
        exceptions.FlexibleChecksumError,
    )  # fmt: skip
    # s3fs and fsspec wrap the server's answer in an OSError.
    for each in (error, error.__cause__):
        if isinstance(each, exceptions.ClientError):
            status = each.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = each.response.get("Error", {}).get("Code")
            return status in TRANSIENT_STATUSES or code in TRANSIENT_CODES
        if isinstance(each, aiohttp.ClientResponseError):
            return each.status in TRANSIENT_STATUSES
        if isinstance(each, transient):
            return True
    return False


def reason(error: BaseException) -> str:
    """An exception's text in one line. s3fs hides the server's in the cause of a missing file."""
    return one_line((isinstance(error, FileNotFoundError) and error.__cause__) or error)
