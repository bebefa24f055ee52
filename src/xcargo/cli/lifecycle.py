"""``xcargo lifecycle``: the bucket's own lifecycle rule, for what no sweep ever gets to."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from xcargo.cli.command import Argument, Command, Example
from xcargo.cli.output import Output
from xcargo.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xcargo.lifecycle.retention import Rule
    from xcargo.model.root import Root

__all__ = ["COMMAND"]

_MARGIN_DAYS = 30
"""How much later than the retention rules the bucket's rule acts: rows may be kept meanwhile, runs take their time."""


def _run(args: argparse.Namespace, out: Output) -> None:
    from xcargo.cli.clouds import CLOUDS, root_in
    from xcargo.cli.rights import Needs, azure_lifecycle, gcs_lifecycle, s3_lifecycle

    cloud = CLOUDS[args.cloud]
    root = root_in(args.path, args.cloud, cloud.schemes)
    days = args.days if args.days is not None else _days(root)
    if days < 1:
        raise ConfigurationError(f"{days} days are none", hint="Give a number of days, longer than any XCom is needed.")
    needs = Needs.of(root, expire_days=days)
    write = {"aws": s3_lifecycle, "minio": s3_lifecycle, "gcs": gcs_lifecycle, "azure": azure_lifecycle}[args.cloud]
    out.print_json(write(needs))
    out.note(f"The bucket deletes every object {days} days after it was written, whether a row refers to it or not.")


def _days(root: Root) -> int:
    """Days after which, by the retention rules, nothing is needed any more, and a margin."""
    from xcargo.cli.deployment import read_settings
    from xcargo.lifecycle.retention import rules_of

    days = _longest_days(rules_of(read_settings(), root))
    if days is None:
        raise ConfigurationError(
            "The rules of [xcargo] retention do not say after how long no value is needed any more",
            hint="Give --days N: longer than any XCom is needed, since the bucket asks no database.",
        )
    return days + _MARGIN_DAYS


def _longest_days(rules: Sequence[Rule]) -> int | None:
    """The longest that any rule keeps a value; None if some value may be kept for ever."""
    catches_all = any((rule.dag, rule.task, rule.key, len(rule.states)) == ("*", "*", "*", 2) for rule in rules)
    if not catches_all or any(rule.keep_seconds is None or rule.keeps_more for rule in rules):
        return None
    return math.ceil(max(rule.keep_seconds or 0 for rule in rules) / 86400)


COMMAND = Command(
    name="lifecycle",
    help="print the bucket's own lifecycle rule, as a backstop behind sweeps",
    description="Prints a lifecycle rule as the cloud's own commands read it. It deletes objects by age alone, without "
    "asking whether a row refers to them. So it must be longer than any XCom is needed: by default it follows from "
    "[xcargo] retention, if the rules there give every value an end, and 30 days more.",
    run=_run,
    arguments=(
        Argument("cloud", choices=("aws", "gcs", "azure", "minio"), help="whose rule"),
        Argument("--path", metavar="URL", help="base URL of the objects (default: the configured one)"),
        Argument("--days", type=int, metavar="DAYS", help="after how many days objects go"),
    ),
    examples=(
        Example("lifecycle aws --days 180 > rule.json", "for 'aws s3api put-bucket-lifecycle-configuration'"),
        Example("lifecycle gcs --days 180 > rule.json", "for 'gcloud storage buckets update --lifecycle-file'"),
        Example("lifecycle azure --days 180 > rule.json", "for 'az storage account management-policy create'"),
    ),
)
