"""A local root: can this user write there, is there room, is it shared."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from xcargo.cli.checks.finding import Finding, Status
from xcargo.model.root import Root

__all__ = ["room", "shared_mount"]

_NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "fuse",
    "glusterfs",
    "lustre",
    "gpfs",
    "beegfs",
    "9p",
    "afs",
)
_LOW_BYTES = 1024**3
_LOW_SHARE = 0.05
_MOUNTS = Path("/proc/mounts")


def room(root: Root) -> Finding:
    """How much space is left for objects, in bytes and files."""
    name, folder = "folder.space", _nearest(root)
    usage = shutil.disk_usage(folder)
    stat = os.statvfs(folder)
    what = f"{usage.free / 1024**3:.1f} GiB of {usage.total / 1024**3:.1f} GiB free at {folder}"
    if stat.f_files and stat.f_favail == 0:
        return Finding(
            name, Status.FAILED, f"No file can be added at {folder}: no inode is left", "Remove files there."
        )
    if usage.free < _LOW_BYTES or usage.free < usage.total * _LOW_SHARE:
        return Finding(name, Status.WARNING, f"Only {what}", "Free space, or set [xcargo] path to a larger place.")
    return Finding(name, Status.OK, what)


def shared_mount(root: Root) -> str | None:
    """Kind of the network file system that the folder lies on; None for a disk of this machine, or if unknown."""
    folder = _nearest(root)
    try:
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    best = ("", "")
    for line in lines:
        _, point, kind = line.split(" ")[:3]
        point = point.replace("\\040", " ")
        if (folder == Path(point) or Path(point) in folder.parents) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1] if best[1].partition(".")[0] in _NETWORK else None


def _nearest(root: Root) -> Path:
    """The folder, or what there is of its path: the first put makes the rest."""
    folder = Path("/" + root.prefix)
    return next(path for path in (folder, *folder.parents) if path.is_dir()).resolve()
