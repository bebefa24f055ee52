"""``xcargo init``: puts into a project what it lacks to use xcargo."""

from __future__ import annotations

import argparse
import getpass
import json
import os
from pathlib import Path

from xcargo.cli.command import YES, Argument, Command, Example, ExitCode
from xcargo.cli.output import Output
from xcargo.cli.setup.place import CLOUDS, Place
from xcargo.cli.setup.project import KINDS, detect, plan
from xcargo.errors import ConfigurationError

__all__ = ["COMMAND"]

_SECRET = "XCARGO_INIT_SECRET"  # noqa: S105 - the name of a variable


def _run(args: argparse.Namespace, out: Output) -> ExitCode | None:
    from xcargo.cli.setup.edits import Conflict

    folder = Path(args.folder).resolve()
    kind = args.kind or detect(folder)
    if kind is None and out.is_interactive and not args.yes:
        out.note(f"There is no Airflow project in {folder} yet.")
        kind = out.ask(f"Which kind is it to be? {', '.join(KINDS)}", choices=KINDS)
    if kind is None:
        raise ConfigurationError(
            "There is no Airflow project here",
            where=folder,
            hint="Go into one, or say which kind it is to be: --kind astro, compose, helm or plain.",
        )
    place = _place(args, out)
    if args.show_connection:
        out.say(json.dumps(place.connection()))
        return None
    try:
        found = plan(kind, folder, place, replace=args.replace)
    except Conflict as conflict:
        out.note(f"{conflict.name} is set already, to something else. Nothing was changed.", style="bold red")
        out.note("Give --replace to change it.")
        return ExitCode.REFUSED
    out.note(f"{folder} is a project of kind {kind}; objects go to {place.root()}")
    for change in found.changes:
        out.say()
        for line in change.diff(folder).splitlines():
            out.say(line, style={"+": "green", "-": "red"}.get(line[:1], ""))
    if not found.changes:
        out.say("Nothing is missing.", style="green")
    elif args.dry_run:
        out.note("Nothing was written: this was a dry run.")
        return None
    else:
        out.say()
        if not out.confirm(f"Write {len(found.changes)} files?", yes=args.yes):
            return ExitCode.REFUSED
        for change in found.changes:
            change.write()
            out.say(f"wrote {change.path.relative_to(folder)}")
    out.say()
    out.say("Next:", style="bold")
    for n, step in enumerate(found.steps, 1):
        out.say(f"  {n}. {step}")
    return None


def _place(args: argparse.Namespace, out: Output) -> Place:
    cloud = _answer(args.cloud, out, f"Where are objects to go? {', '.join(CLOUDS)}", "--cloud", "aws", CLOUDS)
    what = {"azure": "Container", "local": "Folder (absolute)"}.get(cloud, "Bucket")
    bucket = _answer(args.bucket, out, what, "--bucket")
    endpoint, region = args.endpoint_url or "", args.region or ""
    login, account, key_file = args.access_key or "", args.account or "", args.key_file or ""
    secret = os.environ.get(_SECRET, "")
    if cloud == "minio":
        endpoint = _answer(endpoint, out, "Endpoint, such as https://minio.example.com:9000", "--endpoint-url")
    if cloud == "azure":
        account = _answer(account, out, "Storage account", "--account")
    asks = out.is_interactive and not args.yes and not args.role_arn and not secret and not key_file
    if cloud == "aws" and asks and not region and not endpoint:
        region = out.ask("Region (empty: the machine's)", optional=True)
    if cloud in ("aws", "minio") and asks and not login:
        login = out.ask("Access key id (empty: the machine's role)", optional=True)
    if cloud == "gcs" and asks:
        key_file = out.ask("Service account key file (empty: the machine's account)", optional=True)
    if asks and (login or cloud == "azure"):
        secret = getpass.getpass("Secret key: " if login else "Account key or SAS token (empty: managed identity): ")
    if key_file:
        secret = _read(key_file)
    if login and not secret:
        raise ConfigurationError("An access key id needs its secret key", hint=f"Put it into the variable {_SECRET}.")
    return Place(
        cloud=cloud,
        bucket=bucket,
        prefix=args.prefix,
        connection_id=args.connection,
        login=login,
        secret=secret,
        endpoint=endpoint,
        region=region,
        role_arn=args.role_arn or "",
        account=account,
    )


def _answer(
    given: str | None, out: Output, question: str, flag: str, default: str = "", choices: tuple[str, ...] = ()
) -> str:
    """What was given by a flag, or is answered now."""
    if given:
        return given
    if not out.is_interactive:
        raise ConfigurationError(f"{flag} is missing", hint="Nobody can be asked here; give it on the command line.")
    return out.ask(question, default, choices=choices)


def _read(key_file: str) -> str:
    path = Path(key_file).expanduser()
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The key file cannot be read: {error}", where=path) from error


COMMAND = Command(
    name="init",
    help="put into this project what it lacks to use xcargo",
    description="Finds out what kind of project the folder is (Astro, docker compose, the official Helm chart, plain "
    "airflow.cfg) and writes what is missing: the requirement, variables, connection, a test Dag. Shows a diff and "
    "asks first; done twice, it changes nothing. A secret goes only where the project keeps its secrets, never into a "
    f"file that is committed, and is read from a prompt or the variable {_SECRET}, not from the command line.",
    run=_run,
    arguments=(
        Argument("folder", nargs="?", default=".", help="the project (default: here)"),
        Argument("--kind", choices=KINDS, help="instead of finding out"),
        Argument("--cloud", choices=CLOUDS, help="where objects go"),
        Argument("--bucket", metavar="NAME", help="bucket or container; an absolute folder for local"),
        Argument("--prefix", default="xcom", help="folder in the bucket (default: xcom)"),
        Argument("--connection", default="xcargo", metavar="ID", help="id of the connection (default: xcargo)"),
        Argument("--access-key", metavar="ID", help="aws, minio: access key id (default: the machine's role)"),
        Argument("--role-arn", metavar="ARN", help="aws: a role to assume"),
        Argument("--region", help="aws: the bucket's region"),
        Argument("--endpoint-url", metavar="URL", help="of a server other than the cloud's own"),
        Argument("--account", metavar="NAME", help="azure: storage account"),
        Argument("--key-file", metavar="FILE", help="gcs: service account key"),
        Argument("--replace", action="store_true", help="change settings that have another value"),
        Argument("--dry-run", action="store_true", help="show the diff and stop"),
        Argument("--show-connection", action="store_true", help="print the connection as JSON, secret included"),
        YES,
    ),
    examples=(
        Example("init", "ask for everything"),
        Example("init --cloud aws --bucket my-bucket --yes", "with the role of the machine"),
        Example("init --cloud minio --bucket xcom --endpoint-url http://minio:9000", "asks for the key"),
        Example("init --cloud local --bucket /var/lib/airflow/xcom --dry-run", "only show what would be written"),
    ),
)
