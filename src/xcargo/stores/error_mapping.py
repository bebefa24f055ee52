"""obstore's errors -> ours: what a store's answer means, or that none came.

obstore has a class for a missing object, a refused login and a failed condition. For everything else it passes on the
answer as text (status and body, no headers), which is read here and nowhere else.
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

__all__ = ["first_line", "map_exception"]

_STATUS = re.compile(r"status code: (\d{3}) ")
_CODE = re.compile(r"<Code>(\w+?)(?:Exception)?</Code>")
"""S3 answers ExpiredToken, and the service that gives out credentials ExpiredTokenException."""
_ROOT_MISSING = re.compile(
    r"NoSuchBucket|ContainerNotFound|bucket does not exist|container does not exist", re.IGNORECASE
)
_DENIED_CODES = {
    *("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("AuthenticationFailed", "AuthorizationFailure", "RequestTimeTooSkewed"),
}
_WRONG_CLOCK = re.compile(r"RequestTimeTooSkewed|Request date header too old|Invalid JWT: .*timeframe", re.IGNORECASE)
"""What S3, Azure and Google's token service say of a time that is too far from theirs."""
_SLOW_DOWN = re.compile("body: .*SlowDown")
_BUSY_CODES = {"SlowDown", "ServerBusy", "TooManyRequests"}
_TIMED_OUT_CODES = {"RequestTimeout", "OperationTimedOut"}
"""What a store answers, with a 4xx, when a body came too slowly."""
_PASSING_STATUSES = {408, 429}
_LASTING_STATUSES = {501, 505}
_WANTS_CHECKSUM = re.compile("Content-MD5|x-amz-checksum", re.IGNORECASE)
_CHECKSUM_HINT = (
    "A bucket with Object Lock wants a checksum with each object: write "
    '{"extra_args": {"ChecksumAlgorithm": "SHA256"}} into the extra of the connection.'
)
_PERFORMING = re.compile(r"(?:Generic \w+ error: )?Error performing (\w+) (https?://[^\s/]+)\S* in .*? - ")
_CAUSE = re.compile(r'(dns error|TimedOut|IncompleteBody)|message: "([^"]{1,80})"')


def map_exception(error: Exception, root: Root, where: str, *, writing: bool) -> XCargoError:
    """The error of ours for one of obstore's.

    Args:
        error: What obstore raised.
        root: Root of the request.
        where: URI of the object, for the message.
        writing: Whether an object was being put: then only the bucket can be missing.
    """
    from obstore import exceptions

    text, details = first_line(error), str(error)
    answer = _STATUS.search(details)
    status, codes = int(answer[1]) if answer else None, set(_CODE.findall(details))
    if isinstance(error, (FileNotFoundError, exceptions.NotFoundError)):
        if "NoSuchUpload" in codes:
            return StoreError(
                "The upload was aborted before all of its parts were sent",
                where=where,
                hint="A lifecycle rule of the bucket or a sweep with a short grace did it: let both wait longer than "
                "an upload takes, and run the task again.",
            )
        if writing or _ROOT_MISSING.search(details):
            return RootNotFoundError(
                f"There is no bucket or container {root.bucket!r}",
                where=where,
                hint="Create it, or correct [xcargo] path; it is never created automatically.",
            )
        return ObjectNotFoundError(
            "The object of this value is not there",
            where=where,
            hint="It was deleted behind Airflow's back (a lifecycle rule?); run the task that pushed it again.",
        )
    if isinstance(error, (FileExistsError, exceptions.AlreadyExistsError, exceptions.PreconditionError)):
        return ObjectExistsError("There is already an object under this key", where=where)
    denied = (PermissionError, exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    if isinstance(error, denied) or status in (401, 403) or codes & _DENIED_CODES:
        who = f"connection {root.connection_id!r}" if root.connection_id else "the default credentials"
        if _WRONG_CLOCK.search(details):
            return AccessDeniedError(
                f"The store refused {who} because this machine's clock is wrong: {text}",
                where=where,
                hint="Synchronise the clock of this machine or of the container's host; the credentials may be right.",
            )
        return AccessDeniedError(
            f"The store refused {who}: {text}",
            where=where,
            hint="Check that the credentials are right and not expired, that they may read, write and delete below "
            "this path, and that this machine's clock is right. (S3 also answers so for a missing object, to someone "
            "who may not list the bucket.)",
        )
    if "redirect without LOCATION" in details:
        return ConfigurationError(
            f"Bucket {root.bucket!r} is in another region than the one asked",
            where=where,
            hint="Set region_name in the connection's extra field (or AWS_REGION) to the bucket's region.",
        )
    if isinstance(error, exceptions.UnknownConfigurationKeyError):
        return ConfigurationError(text, where=where, hint="Check the connection's extra fields.")
    if status == 416:
        return IntegrityError(
            "The object is shorter than what was stored",
            where=where,
            hint="It was cut short or replaced; run the task that pushed it again.",
        )
    refused = status is not None and (400 <= status < 440 or status in _LASTING_STATUSES)
    if refused and status not in _PASSING_STATUSES and not codes & _TIMED_OUT_CODES:
        hint = _CHECKSUM_HINT if _WANTS_CHECKSUM.search(details) else None
        return StoreError(f"The store refused the request: {text}", where=where, hint=hint)
    unavailable = StoreUnavailableError(
        f"The store failed the request: {text}",
        where=where,
        hint="Check that this machine reaches the endpoint, then let Airflow retry the task. [xcargo] timeout_seconds "
        "says for how long a request is repeated.",
    )
    unavailable.busy = status in (429, 503) or bool(codes & _BUSY_CODES) or _SLOW_DOWN.search(details) is not None
    # After a 4xx or 503 the store has not done what it was asked to; after any other 5xx it may have.
    unavailable.lost = status is None or (status >= 500 and status != 503)
    return unavailable


def first_line(error: Exception) -> str:
    """obstore's message without its debug dump and without the path and query of a URL (it may hold a signature).

    The cause of a broken connection stands in that dump alone, and is added.
    """
    text, _, dump = str(error).partition("\n\nDebug source")
    text = _PERFORMING.sub(r"\1 at \2: ", text.replace("\n", " "))
    text = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1?…", text)[:500]
    cause = _CAUSE.search(dump) if text.endswith(("error", "request")) else None
    return f"{text} ({next(filter(None, cause.groups()))})" if cause else text
