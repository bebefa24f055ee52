"""obstore's errors -> ours: what a store's answer, or the want of one, means.

obstore hands on a status and a body, and no header: ``Retry-After`` does not get here (``heeding.py``).
"""

from __future__ import annotations

import re

from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    IntegrityError,
    ObjectExistsError,
    ObjectNotFoundError,
    RootNotFoundError,
    StoreError,
    StoreUnavailableError,
    XCargoError,
)
from xcargo.model.root import Root

__all__ = ["first_line", "translated"]

_ROOT_MISSING = re.compile(
    r"NoSuchBucket|ContainerNotFound|bucket does not exist|container does not exist", re.IGNORECASE
)
_DENIED = re.compile(
    r"ExpiredToken|InvalidToken|TokenRefreshRequired|InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed"
    r"|AuthorizationFailure|RequestTimeTooSkewed|\b40[13] (Unauthorized|Forbidden)",
)
_REFUSED = re.compile(r"status code: (4(0[0-79]|1\d|2[0-8]|3\d)|501|505) [A-Z]")
_TIMED_OUT = re.compile(r"<Code>(RequestTimeout|OperationTimedOut)</Code>")
"""What a store answers, with a 4xx, when a body came too slowly."""
_BUSY = re.compile(r"status code: (429|503) |<Code>(SlowDown|ServerBusy|TooManyRequests)</Code>|body: .*SlowDown")
_ANSWERED = re.compile(r"status code: (4\d\d|503) ")
"""Answers of a store that has not done what it was asked; after any other 5xx it may have."""
_PERFORMING = re.compile(r"(?:Generic \w+ error: )?Error performing (\w+) (https?://[^\s/]+)\S* in .*? - ")
_CAUSE = re.compile(r'(dns error|TimedOut|IncompleteBody)|message: "([^"]{1,80})"')


def translated(error: Exception, root: Root, where: str, writing: bool) -> XCargoError:
    """The error of ours for one of obstore's."""
    from obstore import exceptions

    text = first_line(error)
    details = str(error)
    who = f"connection {root.connection_id!r}" if root.connection_id else "the default credentials"
    if isinstance(error, (FileNotFoundError, exceptions.NotFoundError)):
        if writing or _ROOT_MISSING.search(details):  # only the bucket can be missing where an object is put
            return RootNotFoundError(
                f"There is no bucket or container {root.bucket!r}",
                where=where,
                hint="Create it, or correct [xcargo] path; it is never created automatically.",
            )
        return ObjectNotFoundError(
            "The object of this XCom is not there",
            where=where,
            hint="It was deleted behind Airflow's back (a lifecycle rule?); run the task that pushed it again.",
        )
    if isinstance(error, (FileExistsError, exceptions.AlreadyExistsError, exceptions.PreconditionError)):
        return ObjectExistsError("There is already an object under this key", where=where)
    denied = isinstance(error, (PermissionError, exceptions.PermissionDeniedError, exceptions.UnauthenticatedError))
    if denied or _DENIED.search(details):
        return AccessDeniedError(
            f"The store refused {who}: {text}",
            where=where,
            hint="Check that the credentials are right and not expired, that they may read, write and delete below "
            "this path, and that this machine's clock is right. (S3 also answers so for a missing object, to someone "
            "who may not list the bucket.)",
        )
    if "redirect without LOCATION" in details:
        return ConfigurationError(
            f"Bucket {root.bucket!r} lies in another region than the one asked",
            where=where,
            hint="Set region_name in the connection's extra field (or AWS_REGION) to the bucket's region.",
        )
    if isinstance(error, exceptions.UnknownConfigurationKeyError):
        return ConfigurationError(text, where=where, hint="Check the connection's extra fields.")
    if "416 Range Not Satisfiable" in details:
        return IntegrityError(
            "The object is shorter than what was stored",
            where=where,
            hint="It was cut short or replaced; run the task that pushed it again.",
        )
    if _REFUSED.search(details) and not _TIMED_OUT.search(details):
        return StoreError(f"The store refused the request: {text}", where=where)
    unavailable = StoreUnavailableError(
        f"The store did not do its work: {text}",
        where=where,
        hint="Check that this machine reaches the endpoint, then let Airflow retry the task. [xcargo] timeout_seconds "
        "says for how long a request is repeated.",
    )
    unavailable.busy = _BUSY.search(details) is not None
    unavailable.lost = _ANSWERED.search(details) is None
    return unavailable


def first_line(error: Exception) -> str:
    """obstore's message without its debug dump and without the path and query of a URL (it may hold a signature).

    The cause of a broken connection stands in that dump alone, and is told.
    """
    text, _, dump = str(error).partition("\n\nDebug source")
    text = _PERFORMING.sub(r"\1 at \2: ", text.replace("\n", " "))
    text = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1?…", text)[:500]
    cause = _CAUSE.search(dump) if text.endswith(("error", "request")) else None
    return f"{text} ({next(filter(None, cause.groups()))})" if cause else text
