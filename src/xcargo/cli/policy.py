"""``xcargo policy``: the least rights for a cloud, to read, to run, or to apply."""

from __future__ import annotations

import argparse
from typing import Any

from xcargo.cli.command import YES, Argument, Command, Example, ExitCode
from xcargo.cli.output import Output
from xcargo.errors import StoreError, XCargoError

__all__ = ["COMMAND"]


def _run(args: argparse.Namespace, out: Output) -> ExitCode | None:
    from xcargo.cli.clouds import CLOUDS, root_in
    from xcargo.cli.rights import Needs

    cloud = CLOUDS[args.cloud]
    root = root_in(args.path, args.cloud, cloud.schemes)
    more: dict[str, Any] = {"account": args.account} if args.account else {}
    needs = Needs.of(
        root,
        delete=not args.no_delete,
        list=not args.no_gc,
        kms_key=args.kms_key,
        expire_days=args.expire_days,
        **more,
    )
    if args.apply:
        from xcargo.cli.provision import steps

        plan = steps(args.cloud, needs, region=args.region, project=args.project, endpoint=args.endpoint_url)
        for step in plan:
            out.note(f"  {step.what}")
        if not out.confirm(f"Do this with your own rights in {args.cloud}?", yes=args.yes):
            return ExitCode.REFUSED
        for step in plan:
            try:
                changed = step.run()
            except XCargoError:
                raise
            except Exception as error:  # of the cloud's SDK
                reason = " ".join(str(error).split())[:300]
                raise StoreError(
                    f"It could not be seen to that {step.what}: {type(error).__name__}: {reason}",
                    hint="Your own credentials need the right to do so, or let somebody run --format commands.",
                ) from error
            out.say(f"{'done   ' if changed else 'already'}  {step.what}")
        return None
    if args.format == "json":
        out.print_json(cloud.document(needs))
    else:
        out.say((cloud.commands if args.format == "commands" else cloud.terraform)(needs).rstrip("\n"))
    return None


COMMAND = Command(
    name="policy",
    help="print the least rights that xcargo needs in a cloud, or set them up",
    description="Prints what lets xcargo push, pull, purge and sweep below one path, and nothing else: an IAM policy "
    "(aws, minio), a custom role (gcs, azure), a script of the cloud's own commands, or Terraform. With --apply it "
    "makes the bucket or container with the official SDK and your own credentials: public access blocked, encrypted, "
    "broken uploads tidied. What is already so stays so.",
    run=_run,
    arguments=(
        Argument("cloud", choices=("aws", "gcs", "azure", "minio"), help="whose rights"),
        Argument("--path", metavar="URL", help="base URL of the objects (default: the configured one)"),
        Argument(
            "--format", choices=("json", "commands", "terraform"), default="json", help="what to print (default: json)"
        ),
        Argument("--no-gc", action="store_true", help="without listing, which only sweeps need"),
        Argument("--no-delete", action="store_true", help="without deleting, which purges and sweeps need"),
        Argument("--expire-days", type=int, metavar="DAYS", help="let the bucket delete objects after so many days"),
        Argument("--kms-key", metavar="ARN", help="aws: the key that encrypts the bucket"),
        Argument("--account", metavar="NAME", help="azure: the storage account"),
        Argument("--apply", action="store_true", help="make the bucket, with your own rights"),
        Argument("--region", help="--apply: where a new bucket lies"),
        Argument("--project", help="--apply, gcs: the project of a new bucket"),
        Argument("--endpoint-url", metavar="URL", help="--apply: of a server other than the cloud's own"),
        YES,
    ),
    examples=(
        Example("policy aws --path s3://my-bucket/xcom", "the IAM policy"),
        Example("policy gcs --format commands | less", "gcloud commands for bucket, role and service account"),
        Example("policy azure --format terraform > xcargo.tf", "for Terraform or OpenTofu"),
        Example("policy aws --path s3://my-bucket/xcom --apply", "make the bucket"),
    ),
)
