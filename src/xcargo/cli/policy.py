"""``xcargo policy`` and ``xcargo lifecycle``: what the bucket or container of a path needs, printed or set up."""

from __future__ import annotations

import argparse
import math
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xcargo.cli.command import YES, Argument, Command, Example, ExitCode, at_least
from xcargo.errors import ConfigurationError, StoreError, XCargoError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xcargo.cli.command import Output
    from xcargo.cli.rights import Needs
    from xcargo.lifecycle.retention import Rule
    from xcargo.model.root import Root

__all__ = ["COMMANDS"]

_MARGIN_DAYS = 30
"""How much later than the retention rules the bucket's rule acts: rows may be kept meanwhile, runs take their time."""

_WITH_EXPIRY = {"json": (), "commands": ("aws", "gcs", "minio"), "terraform": ("aws", "gcs", "azure")}
"""What is printed -> the clouds for which it includes the rule of ``--expire-days``. --apply does as ``commands``."""


def _policy(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.cli.rights import CLOUDS, Needs

    cloud = CLOUDS[args.cloud]
    account = {"account": args.account} if args.account else {}
    if args.account and not re.fullmatch(r"[a-z0-9]+", args.account):  # it becomes part of scripts, as the bucket does
        raise ConfigurationError(f"{args.account!r} is not the name of a storage account")
    needs = Needs.of(
        _root_in(args.cloud, args.path),
        delete=not args.no_delete,
        list=not args.no_gc,
        kms_key=args.kms_key,
        expire_days=args.expire_days,
        **account,
    )
    output = "commands" if args.apply else args.format
    if args.expire_days and args.cloud not in _WITH_EXPIRY[output]:
        rule = f"'xcargo lifecycle {args.cloud} --days {args.expire_days}' prints the rule"
        out.note(f"--expire-days has no effect here; {rule}.", style="yellow")
    if args.apply:
        return _apply(needs, args, out)
    if args.format == "commands":
        out.say(cloud.commands(needs).rstrip("\n"))
    else:
        out.print_json(cloud.document(needs) if args.format == "json" else cloud.terraform(needs))
    return ExitCode.OK


def _apply(needs: Needs, args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.cli.provision import setup_steps

    with _errors_of_sdk(f"Could not ask {args.cloud}"):
        steps = setup_steps(args.cloud, needs, region=args.region, project=args.project, endpoint=args.endpoint_url)
    for step in steps:
        out.note(f"  {step.state}")
    if not out.confirm(f"Do this with your own rights in {args.cloud}?", yes=args.yes):
        return ExitCode.REFUSED
    for step in steps:
        with _errors_of_sdk(f"Could not make sure that {step.state}"):
            changed = step.ensure()
        out.say(f"{'done   ' if changed else 'already'}  {step.state}")
    return ExitCode.OK


@contextmanager
def _errors_of_sdk(what: str) -> Iterator[None]:
    """Errors of a cloud's SDK, as ours."""
    try:
        yield
    except XCargoError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise StoreError(
            f"{what}: {type(error).__name__}: {reason}",
            hint="Your own credentials need the right to do so, or let somebody run --format commands.",
        ) from error


def _lifecycle(args: argparse.Namespace, out: Output) -> None:
    from xcargo.cli.rights import CLOUDS, Needs

    root = _root_in(args.cloud, args.path)
    days = args.days or _days(root)
    out.print_json(CLOUDS[args.cloud].lifecycle(Needs.of(root, expire_days=days)))
    out.note(f"The bucket deletes every object {days} days after it was written, whether a row refers to it or not.")
    whose = "storage account" if args.cloud == "azure" else "bucket"
    out.note(f"The cloud's command replaces all rules that the {whose} has: add those that are to stay.")


def _root_in(cloud: str, path: str | None) -> Root:
    """The root at ``path``, else the configured one. Raises ConfigurationError unless it is in that cloud."""
    from xcargo.cli.deployment import read_settings
    from xcargo.cli.rights import CLOUDS
    from xcargo.model.root import Root

    schemes = CLOUDS[cloud].schemes
    root = Root.parse(path) if path else read_settings().root
    if root is None or root.scheme not in schemes:
        what = str(root) if path else f"The configured path ({root or 'none is set'})"
        raise ConfigurationError(f"{what} is not in {cloud}", hint=f"Give one: --path {schemes[0]}://my-bucket/xcom")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", root.bucket):  # it becomes part of scripts
        raise ConfigurationError(f"{root.bucket!r} is not the name of a bucket or container")
    return root


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
    """The longest that any rule keeps a value; None if some value may be kept without an end."""
    rules = [rule for rule in rules if not rule.memo]
    catches_all = any((rule.dag, rule.task, rule.key, len(rule.states)) == ("*", "*", "*", 2) for rule in rules)
    if not catches_all or any(rule.keep_seconds is None or rule.keeps_more for rule in rules):
        return None
    return math.ceil(max(rule.keep_seconds or 0 for rule in rules) / 86400)


_CLOUD_NAMES = ("aws", "gcs", "azure", "minio")
_PATH = Argument("--path", metavar="URL", help="base URL of the objects (default: the configured one)")

COMMANDS = (
    Command(
        name="policy",
        help="print the least permissions that xcargo needs in a cloud, or create the bucket",
        description="Prints the permissions that let xcargo push, pull, purge and sweep below one path, and nothing "
        "else: an IAM policy (aws, minio), a custom role (gcs, azure), a script of the cloud's own commands, or "
        "Terraform's JSON. With --apply it creates the bucket or container with the official SDK and your own "
        "credentials: public access blocked, encrypted, incomplete uploads removed. Settings that are already right "
        "are not touched.",
        run=_policy,
        arguments=(
            Argument("cloud", choices=_CLOUD_NAMES, help="the cloud whose permissions to print"),
            _PATH,
            Argument(
                "--format",
                choices=("json", "commands", "terraform"),
                default="json",
                help="what to print (default: json)",
            ),
            Argument("--no-gc", action="store_true", help="leave out permission to list, which only sweeps need"),
            Argument(
                "--no-delete", action="store_true", help="leave out permission to delete, which purges and sweeps need"
            ),
            Argument(
                "--expire-days",
                type=at_least(1),
                metavar="DAYS",
                help="let the bucket delete objects after so many days",
            ),
            Argument("--kms-key", metavar="ARN", help="aws: the key that encrypts the bucket"),
            Argument("--account", metavar="NAME", help="azure: the storage account"),
            Argument("--apply", action="store_true", help="create the bucket, with your own permissions"),
            Argument("--region", help="--apply: region of a new bucket"),
            Argument("--project", help="--apply, gcs: the project of a new bucket"),
            Argument("--endpoint-url", metavar="URL", help="--apply: URL of a server other than the cloud's own"),
            YES,
        ),
        examples=(
            Example("policy aws --path s3://my-bucket/xcom", "the IAM policy"),
            Example("policy gcs --format commands | less", "gcloud commands for bucket, role and service account"),
            Example("policy azure --format terraform > xcargo.tf.json", "for Terraform or OpenTofu"),
            Example("policy aws --path s3://my-bucket/xcom --apply", "create the bucket"),
        ),
    ),
    Command(
        name="lifecycle",
        help="print a lifecycle rule for the bucket, as a backstop behind sweeps",
        description="Prints a lifecycle rule in the format of the cloud's own commands. The rule deletes objects by "
        "age alone and does not check whether a row refers to them, so its age must be longer than any XCom is "
        "needed. By default it is derived from [xcargo] retention, if the rules there limit the age of every value, "
        "plus 30 days.",
        run=_lifecycle,
        arguments=(
            Argument("cloud", choices=_CLOUD_NAMES, help="the cloud whose rule to print"),
            _PATH,
            Argument("--days", type=at_least(1), metavar="DAYS", help="after how many days objects are deleted"),
        ),
        examples=(
            Example("lifecycle aws --days 180 > rule.json", "for 'aws s3api put-bucket-lifecycle-configuration'"),
            Example("lifecycle gcs --days 180 > rule.json", "for 'gcloud storage buckets update --lifecycle-file'"),
            Example("lifecycle azure --days 180 > rule.json", "for 'az storage account management-policy create'"),
        ),
    ),
)
