"""``xcargo restore``: shows what sweeps laid into quarantine, and puts it back."""

from __future__ import annotations

import argparse

from xcargo.cli.command import JSON, Argument, Command, Example, ExitCode
from xcargo.cli.output import Output
from xcargo.cli.sweeping import DAG, PATH, PREFIX, prefixes_of, roots_of

__all__ = ["COMMAND"]


def _run(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.cli.deployment import open_root
    from xcargo.lifecycle.lock import SweepLock
    from xcargo.lifecycle.quarantine import QUARANTINE, restore

    restored = []
    for root in roots_of(args):
        store = open_root(root)
        prefixes = prefixes_of(args)
        found = [info for prefix in prefixes or ("",) for info in store.list(f"{QUARANTINE}/{prefix}".rstrip("/"))]
        rows = [
            (root.uri(info.key.removeprefix(f"{QUARANTINE}/")), info.size_bytes, info.last_modified) for info in found
        ]
        restored += [dict(zip(("uri", "size_bytes", "since"), row, strict=True)) for row in rows]
        if not out.json:
            out.table(("object", "bytes", "in quarantine since"), rows, right=("bytes",))
        if args.apply and found:
            with SweepLock(store, prefixes) as lock, out.progress("Restoring", total=len(found)) as advance:
                for info in found:
                    lock.check()
                    restore(store, info)
                    advance()
    if out.json:
        out.print_json({"applied": args.apply, "objects": restored})
    elif restored:
        out.note(f"{len(restored):,} objects are back." if args.apply else "Give --apply to put them back.")
    else:
        out.note("Nothing lies in quarantine.")
    return ExitCode.OK


COMMAND = Command(
    name="restore",
    help="put back what 'gc --quarantine' moved aside",
    description="Lists the objects in quarantine. With --apply it copies them back to where they were and then takes "
    "them out of quarantine; one that is there already is left as it is.",
    run=_run,
    arguments=(JSON, Argument("--apply", action="store_true", help="do it"), PATH, DAG, PREFIX),
    examples=(
        Example("restore", "what lies in quarantine"),
        Example("restore --dag my_dag --apply", "put back what belongs to one Dag"),
    ),
)

COMMANDS = (COMMAND,)
