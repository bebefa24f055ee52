"""What a store means when it refuses: its code -> a sentence and the fix. Pure."""

from __future__ import annotations

import re

from xcargo.cli.checks.finding import Finding, Status, failure
from xcargo.errors import AccessDeniedError, XCargoError
from xcargo.model.root import Root

__all__ = ["told"]

_POLICY = {"s3": "aws", "gs": "gcs", "az": "azure"}
_MEANINGS = (
    (
        "SignatureDoesNotMatch",
        "the secret key is not that of the access key id",
        "Correct the connection's password.",
    ),
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
        "AccessDenied|AuthorizationPermissionMismatch|AuthorizationFailure|does not have storage",
        "the credentials are right, but this is not among their rights",
        "",
    ),
)


def told(name: str, error: XCargoError, root: Root, *, status: Status = Status.FAILED) -> Finding:
    """The finding for an error of the store; a refusal in a few plain words where its code is known."""
    if not isinstance(error, AccessDeniedError):
        return failure(name, error, status=status)
    for codes, meaning, fix in _MEANINGS:
        found = re.search(codes, error.what)
        if found:
            who = f"Connection {root.connection_id!r}" if root.connection_id else "The default credentials"
            grant = f"Grant it: `xcargo policy {_POLICY.get(root.scheme, 'aws')}` prints all that is needed."
            return Finding(name, status, f"{who}: {meaning} ({found[0]}) [{error.where}]", fix or grant)
    return failure(name, error, status=status)
