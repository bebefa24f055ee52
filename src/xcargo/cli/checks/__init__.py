"""What ``xcargo doctor`` looks at. A check returns findings; showing them is not its business."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from xcargo.errors import AccessDeniedError, XCargoError
from xcargo.model.root import Root

__all__ = ["Finding", "Status", "explain", "failed", "failure", "ok", "warning", "worst"]


class Status(str, Enum):
    """How a check ended, from best to worst."""

    OK = "ok"
    SKIPPED = "skipped"
    """Not looked at, because something before it failed or it does not apply."""
    WARNING = "warning"
    """Works, but not as one would want it."""
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """The result of a check. ``what`` and ``fix`` are sentences; neither holds a secret."""

    name: str
    """Stable, for scripts: ``group.check``."""
    status: Status
    what: str
    fix: str = ""
    milliseconds: float | None = None
    """How long the request took, where one was made."""


def ok(name: str, what: str, *, milliseconds: float | None = None) -> Finding:
    """A check that found nothing wrong."""
    return Finding(name, Status.OK, what, milliseconds=milliseconds)


def warning(name: str, what: str, *, fix: str) -> Finding:
    """A check that found what works, but not as one would want it."""
    return Finding(name, Status.WARNING, what, fix)


def failed(name: str, what: str, *, fix: str) -> Finding:
    """A check that found what does not work."""
    return Finding(name, Status.FAILED, what, fix)


def failure(name: str, error: XCargoError, *, status: Status = Status.FAILED) -> Finding:
    """The finding for an error of ours: what and where, and its hint as the fix."""
    where = f" [{error.where}]" if error.where is not None else ""
    return Finding(name, status, f"{error.what.rstrip('.')}{where}", error.hint or "")


def worst(findings: Iterable[Finding]) -> Status:
    """The worst status among them; one that was skipped counts as nothing."""
    order = (Status.OK, Status.SKIPPED, Status.WARNING, Status.FAILED)
    return max((f.status for f in findings if f.status != Status.SKIPPED), key=order.index, default=Status.OK)


_CLOUDS = {"s3": "aws", "gs": "gcs", "az": "azure"}
_MEANINGS = (
    ("SignatureDoesNotMatch", "the secret key is not that of the access key id", "Correct the connection's password."),
    (
        "InvalidAccessKeyId",
        "the store does not know the access key id",
        "Correct the connection's login; the key may have been deleted.",
    ),
    (
        "ExpiredToken|TokenRefreshRequired|InvalidToken",
        "the session token is not valid any more",
        "Renew it, or let the connection assume a role, which xcargo renews by itself.",
    ),
    (
        "RequestTimeTooSkewed",
        "this machine's clock is too far off",
        "Synchronise the clock of this machine or of the container's host.",
    ),
    (
        "AuthenticationFailed|NoAuthenticationInformation",
        "the account key or signature is not valid",
        "Correct the connection's password or sas_token; a signature may have expired.",
    ),
    (
        "kms:[A-Za-z]+",
        "the credentials may not use the key that encrypts the bucket",
        "Grant it: `xcargo policy aws --kms-key ARN` prints all that is needed.",
    ),
    (
        "AuthorizationFailure",
        "the storage account takes no requests from this network, or the signature does not admit this one",
        "Allow this network in the account's firewall; look at services, addresses and expiry of the SAS token.",
    ),
    (
        "AccessDenied|AuthorizationPermissionMismatch|does not have storage",
        "the credentials are right, but this is not among their rights",
        "Grant it: `xcargo policy {cloud}` prints all that is needed.",
    ),
)
"""Codes with which stores refuse access, what they mean, and what to do."""


def explain(name: str, error: XCargoError, root: Root) -> Finding:
    """The finding for an error of the store; refused access in a few plain words where its code is known."""
    if isinstance(error, AccessDeniedError):
        for codes, meaning, fix in _MEANINGS:
            code = re.search(codes, error.what)
            if code:
                who = f"Connection {root.connection_id!r}" if root.connection_id else "The default credentials"
                what = f"{who}: {meaning} ({code[0]}) [{error.where}]"
                return failed(name, what, fix=fix.format(cloud=_CLOUDS.get(root.scheme, "aws")))
    return failure(name, error)
