"""The page docs/faults.md: what each cell came to when it was last run."""

from __future__ import annotations

from collections.abc import Iterable

from .cells import BOUND_SECONDS, FAULTS_OF, OPERATIONS, PARTS_BOUND_SECONDS, Result

__all__ = ["updated"]

_TITLES = {
    "s3": "S3 (SeaweedFS)",
    "gcs": "Google Cloud Storage (fake-gcs-server)",
    "azure": "Azure (Azurite)",
    "file": "Local files (tmpfs of 64 MB)",
}

_HEAD = f"""# Faults

What xcargo makes of a store that fails. `make faults` runs every cell and writes this page. The servers are real ones,
behind a proxy that spoils requests and answers. A cell that is not as it must be is **red**, and fails the run.

A cell is the outcome of one operation while the fault is in force, with `timeout_seconds` and `purge_timeout_seconds`
of {BOUND_SECONDS:g} ({PARTS_BOUND_SECONDS:g} for those of many megabytes):

- *value*: it worked, and gave exactly what was pushed. For a purge: the object is gone.
- an [error](errors.md) of that class, within the time bound. Nothing is left: no object, no unfinished upload.
- `left, logged`: a purge that could not delete says so in the log and fails nobody.
- *+ orphan*: the store did what nobody could learn of. No row names that object or unfinished upload. A sweep takes
    both.

*once* is met by one request, *lasting* by all of them. *Push in parts* is a value of 21 MB, *read a part* a thousand
bytes out of one of 9 MB. The emulators of Google and Azure do not look at a request's clock, SeaweedFS does. An upload
that was altered on its way is found out by the pull; over TLS that cannot happen. What a cell pushes follows from its
name, so a red one can be run again by itself: `make faults FAULTS="s3 refused pull"` runs those whose names hold the
words. Ten cells run at once, and one that ran out of time among them is run again by itself.

For local files, `rename: EPERM` is a system call and the error that it returns, as file systems in use do: `ENOSYS`,
`EPERM` and `EOPNOTSUPP` come from mounts of buckets and some of SMB, `ESTALE` from NFS, `ENOTCONN` from FUSE whose
program has ended, `EDQUOT` from quotas, `EMLINK` from folders that are full. Each of the errors has a hint that says
what to mend.
"""


def updated(page: str, results: Iterable[Result]) -> str:
    """The page with the results in place of what it said of their cells."""
    texts = _texts(page)
    texts.update({(r.cell.kind, r.cell.case.name, r.cell.operation): _text(r) for r in results})
    lines: list[str] = []
    shown: list[str] = []
    for kind, cases in FAULTS_OF.items():
        lines += [f"## {_TITLES[kind]}", "", f"| Fault | {' | '.join(OPERATIONS)} |", "|---" * 7 + "|"]
        for name in dict.fromkeys(case.name for case in cases):
            row = [texts.get((kind, name, operation), "") for operation in OPERATIONS]
            lines.append(f"| {name} | {' | '.join(row)} |")
            shown += filter(None, row)
        lines.append("")
    red = sum(text.startswith("**red**") for text in shown)
    return "\n".join([_HEAD, f"{len(shown)} cells, {red} red.", "", *lines])


def _texts(page: str) -> dict[tuple[str, str, str], str]:
    """What a page says, by kind, fault and operation."""
    texts = {}
    kinds = {title: kind for kind, title in _TITLES.items()}
    for section in page.split("\n## ")[1:]:
        title, *lines = section.splitlines()
        for line in lines[3:]:
            name, *row = (text.strip() for text in line.strip("|").split("|"))
            texts.update({(kinds[title], name, operation): text for operation, text in zip(OPERATIONS, row)})
    return texts


def _text(result: Result) -> str:
    if result.wrong:
        return f"**red**: {result.wrong.replace('|', '/')}"
    outcome = "value" if result.outcome == "value" else f"`{result.outcome}`"
    return f"{outcome} + orphan" if result.leftovers else outcome
