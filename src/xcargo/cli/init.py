"""``xcargo init``: asks where objects are to go, and puts into a project what it lacks to use xcargo."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcargo.cli.command import YES, Argument, Command, Example, ExitCode
from xcargo.cli.project import KINDS, SettingConflictError, detect, plan
from xcargo.errors import ConfigurationError
from xcargo.model.root import Root

if TYPE_CHECKING:
    from xcargo.cli.command import Output

__all__ = ["CLOUDS", "COMMANDS", "SetupAnswers"]

CLOUDS = ("aws", "gcs", "azure", "minio", "local")
_SCHEMES = {"aws": "s3", "minio": "s3", "gcs": "gs", "azure": "az"}


@dataclass(frozen=True)
class SetupAnswers:
    """What the user answered. Empty credentials mean those of the machine: a role, a managed identity."""

    cloud: str
    bucket: str
    """Bucket or container; for ``local`` an absolute folder."""
    prefix: str = "xcom"
    connection_id: str = "xcargo"
    login: str = ""
    """Access key id (aws, minio)."""
    secret: str = field(default="", repr=False)
    """Secret key (aws, minio), account key or SAS token (azure), content of a key file (gcs)."""
    endpoint: str = ""
    region: str = ""
    role_arn: str = ""
    account: str = ""

    @property
    def needs_connection(self) -> bool:
        """Whether there is anything to say that the environment does not say by itself."""
        if self.cloud == "local":
            return False
        return bool(self.secret or self.endpoint or self.role_arn or self.account or self.region)

    def root(self) -> Root:
        """The root. Raises ConfigurationError for answers that make none."""
        if self.cloud == "local":
            return Root.parse(f"file://{self.bucket}")
        names = {"bucket or container": self.bucket, "connection": self.connection_id}
        for what, name in names.items():
            if not re.fullmatch(r"[A-Za-z0-9._-]+", name):  # a URL would become another bucket
                raise ConfigurationError(
                    f"{name!r} is not the name of a {what}", hint="Give the name alone; --prefix is the folder in it."
                )
        user = f"{self.connection_id}@" if self.needs_connection else ""
        return Root.parse(f"{_SCHEMES[self.cloud]}://{user}{self.bucket}/{self.prefix}".rstrip("/"))

    def connection(self) -> dict[str, Any]:
        """The Airflow connection in its JSON form; empty when none is needed."""
        if not self.needs_connection:
            return {}
        if self.cloud in ("aws", "minio"):
            extra = {"endpoint_url": self.endpoint, "region_name": self.region, "role_arn": self.role_arn}
            return _compact({"conn_type": "aws", "login": self.login, "password": self.secret, "extra": extra})
        if self.cloud == "gcs":
            keyfile = _key_file(self.secret) if self.secret else None
            extra_gcs = {"keyfile_dict": keyfile, "endpoint": self.endpoint}
            return _compact({"conn_type": "google_cloud_platform", "extra": extra_gcs})
        is_sas = "sig=" in self.secret
        return _compact(
            {
                "conn_type": "wasb",
                "login": self.account,
                "host": self.endpoint,
                "password": "" if is_sas else self.secret,
                "extra": {"sas_token": self.secret if is_sas else ""},
            }
        )

    def variables(self) -> dict[str, str]:
        """What makes xcargo the backend, as variables; without the connection."""
        return {"AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend", "AIRFLOW__XCARGO__PATH": str(self.root())}

    def connection_variable(self) -> dict[str, str]:
        """The connection as a variable; it holds the secret."""
        name, connection = f"AIRFLOW_CONN_{self.connection_id.upper()}", self.connection()
        if connection and not name.isidentifier():
            raise ConfigurationError(
                f"{name} is no name for a variable: not every shell would pass it on",
                hint="Choose a --connection of letters, digits and underscores.",
            )
        return {name: json.dumps(connection)} if connection else {}

    def extras(self, requirements: str) -> set[str]:
        """Extras of our distribution: the provider where its hook is needed, and libraries the project uses itself."""
        extras = {"amazon"} if self.role_arn else set()
        named = {line.strip().lower() for line in requirements.splitlines()}
        for library in ("pandas", "polars", "numpy"):
            if any(line == library or line.startswith((f"{library}=", f"{library}>", f"{library}<")) for line in named):
                extras.add(library)
        return extras


def _key_file(text: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ConfigurationError("The key file is not JSON", hint="Give the file that Google Cloud let you download.")
    return fields


def _compact(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without fields that are empty, those of ``extra`` too."""
    fields = {**fields, "extra": {name: value for name, value in fields["extra"].items() if value}}
    return {name: value for name, value in fields.items() if value}


# --- the command -----------------------------------------------------------------------------------------------------

_SECRET = "XCARGO_INIT_SECRET"  # noqa: S105 - the name of a variable


def _run(args: argparse.Namespace, out: Output) -> ExitCode:
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
    answers = _answers(args, out)
    if args.show_connection:
        out.say(json.dumps(answers.connection()))
        return ExitCode.OK
    try:
        project = plan(kind, folder, answers, replace=args.replace)
    except SettingConflictError as conflict:
        out.note(f"{conflict.name} is set already, to something else. Nothing was changed.", style="bold red")
        out.note("Give --replace to change it.")
        return ExitCode.REFUSED
    out.note(f"{folder} is a project of kind {kind}; objects go to {answers.root()}")
    for change in project.changes:
        out.say()
        for line in change.diff(folder).splitlines():
            out.say(line, style={"+": "green", "-": "red"}.get(line[:1], ""))
    if not project.changes:
        out.say("Nothing is missing.", style="green")
    elif args.dry_run:
        out.note("Nothing was written: this was a dry run.")
        return ExitCode.OK
    else:
        out.say()
        if not out.confirm(f"Write {len(project.changes)} files?", yes=args.yes):
            return ExitCode.REFUSED
        for change in project.changes:
            change.write()
            out.say(f"wrote {change.path.relative_to(folder)}")
    out.say()
    out.say("Next:", style="bold")
    for n, step in enumerate(project.steps, 1):
        out.say(f"  {n}. {step}")
    return ExitCode.OK


def _answers(args: argparse.Namespace, out: Output) -> SetupAnswers:
    """What the flags say, and what is answered to questions about the rest."""

    def required(value: str | None, flag: str, question: str, *, default: str = "", choices: Sequence[str] = ()) -> str:
        if value:
            return value
        if not out.is_interactive:
            raise ConfigurationError(f"{flag} is missing", hint="Nobody can be asked here; add it to the command line.")
        return out.ask(question, default, choices=choices)

    cloud = required(
        args.cloud, "--cloud", f"Where are objects to go? {', '.join(CLOUDS)}", default="aws", choices=CLOUDS
    )
    what = {"azure": "Container", "local": "Folder (absolute)"}.get(cloud, "Bucket")
    bucket = required(args.bucket, "--bucket", what)
    endpoint, region = args.endpoint_url or "", args.region or ""
    login, account, key_file = args.access_key or "", args.account or "", args.key_file or ""
    secret = os.environ.get(_SECRET, "")
    if cloud == "minio":
        endpoint = required(endpoint, "--endpoint-url", "Endpoint, such as https://minio.example.com:9000")
    if cloud == "azure":
        account = required(account, "--account", "Storage account")
    asks = out.is_interactive and not args.yes and not args.role_arn and not secret and not key_file
    if cloud == "aws" and asks and not region and not endpoint:
        region = out.ask("Region (empty: the machine's)", optional=True)
    if cloud in ("aws", "minio") and asks and not login:
        login = out.ask("Access key id (empty: the machine's role)", optional=True)
    if cloud == "gcs" and asks:
        key_file = out.ask("Service account key file (empty: the machine's account)", optional=True)
    if asks and (login or cloud == "azure"):
        question = "Secret key: " if login else "Account key or SAS token (empty: managed identity): "
        try:
            secret = getpass.getpass(question)
        except EOFError:
            raise ConfigurationError("The input ended before a question was answered") from None
    if key_file:
        secret = _read(key_file)
    if login and not secret:
        raise ConfigurationError("An access key id needs its secret key", hint=f"Put it into the variable {_SECRET}.")
    return SetupAnswers(
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


def _read(key_file: str) -> str:
    path = Path(key_file).expanduser()
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The key file cannot be read: {error}", where=path) from error


COMMANDS = (
    Command(
        name="init",
        help="add to this project what it needs to use xcargo",
        description="Detects what kind of project the folder is (Astro, docker compose, the official Helm chart, plain "
        "airflow.cfg) and writes what is missing: the requirement, variables, connection, a test Dag. Shows a diff and "
        "asks first; run it again and it changes nothing. A secret is written only where the project keeps its "
        f"secrets, never to a file that is committed. It is read from a prompt or the variable {_SECRET}, not from the "
        "command line.",
        run=_run,
        arguments=(
            Argument("folder", nargs="?", default=".", help="the project (default: here)"),
            Argument("--kind", choices=KINDS, help="kind of project (default: detect it)"),
            Argument("--cloud", choices=CLOUDS, help="where to store objects"),
            Argument("--bucket", metavar="NAME", help="bucket or container; an absolute folder for local"),
            Argument("--prefix", default="xcom", help="folder in the bucket (default: xcom)"),
            Argument("--connection", default="xcargo", metavar="ID", help="id of the connection (default: xcargo)"),
            Argument("--access-key", metavar="ID", help="aws, minio: access key id (default: the machine's role)"),
            Argument("--role-arn", metavar="ARN", help="aws: a role to assume"),
            Argument("--region", help="aws: the bucket's region"),
            Argument("--endpoint-url", metavar="URL", help="URL of a server other than the cloud's own"),
            Argument("--account", metavar="NAME", help="azure: storage account"),
            Argument("--key-file", metavar="FILE", help="gcs: service account key"),
            Argument("--replace", action="store_true", help="change settings that have another value"),
            Argument("--dry-run", action="store_true", help="show the diff and stop"),
            Argument("--show-connection", action="store_true", help="print the connection as JSON, secret included"),
            YES,
        ),
        examples=(
            Example("init", "ask for everything"),
            Example("init --cloud aws --bucket my-bucket --yes", "use the machine's role"),
            Example("init --cloud minio --bucket xcom --endpoint-url http://minio:9000", "ask for the key"),
            Example("init --cloud local --bucket /var/lib/airflow/xcom --dry-run", "only show what would be written"),
        ),
    ),
)
