"""Files and folders: uploaded when they are pushed, downloaded at first use into a temporary folder of the process."""

from __future__ import annotations

import errno
import io
import mimetypes
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Union

from xcargo.codecs.base import Encoded, SourceCodec
from xcargo.codecs.source import Source, open_seekable, open_stream, same_bytes
from xcargo.codecs.temporary_folder import disk_space_for, temporary_folder
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.model.envelope import is_utf8

__all__ = ["Directory", "File", "FileCodec"]

_Path = Union[str, "os.PathLike[str]"]

_READ_BYTES = 4 * 1024 * 1024
_BLOCK = tarfile.BLOCKSIZE
_MAX_NAME_BYTES = 255
_IMPOSSIBLE = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG)
"""What the system says of entries that contradict one another, or that no folder can hold."""


class _Local:
    """A value at a local path, or one that is downloaded to such a path at first use.

    Downloads go to a temporary folder (below ``TMPDIR``) that is removed when the process ends.
    """

    name: str

    def __init__(self, path: _Path, name: str | None) -> None:
        self._path: Path | None = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
        self._source: Source | None = None
        self.name = name or self._path.name

    @classmethod
    def _stored(cls, source: Source, name: object, **more: Any) -> Any:
        """One that is read from a source."""
        self = cls.__new__(cls)
        self._path, self._source = None, source
        self.name = str(name) if _is_name(name) else "file"
        for attribute, value in more.items():
            setattr(self, attribute, value)
        return self

    @property
    def _remote(self) -> Source | None:
        """The source, if it was not downloaded yet."""
        return self._source if self._path is None else None

    @property
    def path(self) -> Path:
        """Its path on this machine. Downloads it the first time."""
        if self._path is None:
            self._path = self.save(temporary_folder() / self.name)
        return self._path

    def save(self, path: _Path) -> Path:
        """Copy it to a path. Raises StorageFullError when there is no space, and then leaves no part of a file."""
        target = Path(path)
        if self._source is None and target.exists() and target.samefile(self.path):
            return target
        with disk_space_for(repr(self.name), target.parent):
            self._save(target)
        return target

    def _save(self, target: Path) -> None:
        raise NotImplementedError

    def __fspath__(self) -> str:
        return str(self.path)

    def __reduce__(self) -> Any:
        """For another process on this machine: by its path, after a download."""
        state = {name: value for name, value in vars(self).items() if name not in ("_path", "_source")}
        return type(self), (str(self.path),), state

    __hash__ = None  # type: ignore[assignment]


class File(_Local):
    """A file for the next task: ``return xcargo.File("report.parquet")``.

    A push uploads it in parts; the memory needed does not depend on its size. A pull gives a File with the same name,
    media type and bytes. Use it wherever you can use a path (``open(file)``, ``pandas.read_csv(file)``), which
    downloads it once, or read a part of it with `open`. Two files are equal if name, media type and bytes are equal.
    """

    media_type: str | None

    def __init__(self, path: _Path, *, name: str | None = None, media_type: str | None = None) -> None:
        super().__init__(path, name)
        self.media_type = media_type or mimetypes.guess_type(self.name)[0]

    @property
    def size_bytes(self) -> int:
        """Length of the file. No request."""
        return self.path.stat().st_size if self._remote is None else self._remote.size_bytes

    def open(self) -> io.BufferedReader:
        """The file, binary and seekable. If it was not downloaded, fetches only what you read."""
        return self.path.open("rb") if self._remote is None else open_seekable(self._remote)

    def read_bytes(self) -> bytes:
        """All bytes, in memory."""
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole text, in memory."""
        return self.read_bytes().decode(encoding)

    def _save(self, target: Path) -> None:
        if self._source is None:
            shutil.copyfile(self.path, target)
            return
        partial = target.with_name(f".xcargo-{secrets.token_hex(8)}.part")
        try:
            with partial.open("xb", buffering=0) as file:
                for chunk in self._source.iter_chunks():
                    left = memoryview(chunk)
                    while left:
                        left = left[file.write(left) :]
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        mine, its = ((f.name, f.media_type, f.size_bytes) for f in (self, other))
        return mine == its and same_bytes(self.open(), other.open())

    def __repr__(self) -> str:
        size = f", {self.size_bytes} bytes" if self._path is None or self._path.is_file() else ""
        return f"<xcargo.File {self.name!r}{size}>"


class Directory(_Local):
    """A folder with everything in it for the next task: ``return xcargo.Directory("model")``.

    It is stored as one tar archive, written while it is uploaded. A pulled folder is unpacked when you first use its
    `path`. Files keep their times and permissions, except for write permission for others. Links must stay inside the
    folder; devices and sockets are refused. Two folders are equal if their names and contents are equal.
    """

    files: int
    """Number of files in it, without a request. Only a pulled folder has this attribute."""

    def __init__(self, path: _Path, *, name: str | None = None) -> None:
        super().__init__(path, name)

    def _save(self, target: Path) -> None:
        if self._source is None:
            shutil.copytree(self.path, target, symlinks=True, dirs_exist_ok=True)
            return
        if not hasattr(tarfile, "data_filter"):
            raise UnsupportedTypeError(
                "This Python cannot unpack an archive safely", hint="Use Python 3.10.12, 3.11.4, 3.12 or newer."
            )
        target.mkdir(exist_ok=True)
        try:
            with (
                open_stream(self._source) as flow,
                tarfile.open(fileobj=flow, mode="r|", bufsize=_READ_BYTES) as archive,
            ):
                archive.extractall(target, filter=_safe_entry)  # noqa: S202 - the filter admits only what we write
        except XCargoError:
            raise
        except (tarfile.TarError, OSError, ArithmeticError, ValueError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno not in _IMPOSSIBLE:
                raise
            raise DecodeError(f"The object is not an archive of a folder: {type(error).__name__}") from error

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Directory):
            return NotImplemented
        return self.name == other.name and _same_trees(self.path, other.path)

    def __repr__(self) -> str:
        return f"<xcargo.Directory {self.name!r}>"


class FileCodec(SourceCodec):
    """File and Directory. The payload is the file's own bytes, or a tar archive."""

    id = "file"

    def accepts(self, value: object) -> bool:
        return type(value) in (File, Directory)

    def encode(self, value: File | Directory) -> Encoded:
        if not _is_name(value.name):
            raise UnsupportedTypeError(
                f"{value.name[:80]!r} is not the name of a file", hint="Give it one: File(path, name='data.csv')."
            )
        if isinstance(value, Directory):
            return self._encode_directory(value)
        params = {"name": value.name}
        if value.media_type:
            params["media_type"] = value.media_type.encode("ascii", "replace").decode().replace("\0", "?")
        stored = value._remote
        size = value.size_bytes if stored is not None else _size_of(value.path)
        parts = stored.iter_chunks() if stored is not None else _contents(value.path, size)
        return Encoded(self.id, parts, params, _suffix(value.name), size, stored)

    def _encode_directory(self, value: Directory) -> Encoded:
        archive = value._remote
        if archive is not None:
            params = {"directory": value.name, "files": value.files}
            return Encoded(self.id, archive.iter_chunks(), params, ".tar", archive.size_bytes, archive)
        entries = _entries(value.path)
        size = sum(-(-entry.size // _BLOCK) * _BLOCK + _BLOCK for _, entry in entries) + 2 * _BLOCK
        params = {"directory": value.name, "files": sum(entry.isreg() for _, entry in entries)}
        return Encoded(self.id, _archive(entries), params, ".tar", size)

    def open(self, source: Source, params: Mapping[str, Any]) -> File | Directory:
        if "directory" in params:
            folder: Directory = Directory._stored(source, params["directory"], files=params.get("files", 0))
            return folder
        file: File = File._stored(source, params.get("name"), media_type=params.get("media_type"))
        return file


def _is_name(name: object) -> bool:
    """Whether a file of this name stays inside its folder, and the name inside the row's JSON."""
    if not isinstance(name, str) or not is_utf8(name) or name in ("", ".", ".."):
        return False
    return "/" not in name and "\0" not in name and len(name.encode()) <= _MAX_NAME_BYTES


def _size_of(path: Path) -> int:
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file" if path.exists() else "not there"
        raise UnsupportedTypeError(
            f"The file {str(path)!r} is {what}",
            hint="Return xcargo.File of a file that this task wrote, xcargo.Directory of a folder.",
        )
    return path.stat().st_size


def _contents(path: Path, size_bytes: int) -> Iterator[bytes]:
    """The file's bytes, as many as it had when its size was taken."""
    left = size_bytes
    try:
        with path.open("rb", buffering=0) as file:
            while left and (chunk := file.read(min(left, _READ_BYTES))):
                left -= len(chunk)
                yield chunk
    except OSError as error:
        raise _unreadable(path, error) from error
    if left:
        raise UnsupportedTypeError(
            f"The file {str(path)!r} got shorter while it was stored", hint="Return it when it is complete."
        )


def _unreadable(path: object, error: OSError) -> UnsupportedTypeError:
    what = f"{str(path)!r} cannot be read: {error.strerror}"
    return UnsupportedTypeError(what, hint="Return it when it is complete.")


def _entries(folder: Path) -> list[tuple[Path, tarfile.TarInfo]]:
    """Everything in a folder, parents first, sorted by name, so that the same folder gives the same archive."""
    if not folder.is_dir():
        raise UnsupportedTypeError(
            f"The folder {str(folder)!r} is not there", hint="Return a folder that this task wrote."
        )

    def refuse(error: OSError) -> None:
        raise _unreadable(error.filename, error) from error

    maker = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")
    entries = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted((*folders, *files)):
            path = Path(parent, name)
            entries.append((path, _entry(maker, folder, path)))
    return entries


def _entry(maker: tarfile.TarFile, folder: Path, path: Path) -> tarfile.TarInfo:
    try:
        entry = maker.gettarinfo(path, path.relative_to(folder).as_posix())
    except OSError as error:
        raise _unreadable(path, error) from error
    if entry is None or not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        raise UnsupportedTypeError(
            f"{str(path)!r} is neither a file nor a folder nor a link", hint="Remove it from the folder."
        )
    if entry.issym() and not _inside(folder, path):
        raise UnsupportedTypeError(
            f"The link {str(path)!r} leads out of the folder", hint="Copy its target into the folder."
        )
    if entry.islnk():  # the second name of a file; stored again
        entry.type, entry.size, entry.linkname = tarfile.REGTYPE, path.stat().st_size, ""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _inside(folder: Path, link: Path) -> bool:
    target = link.readlink()
    end = os.path.realpath(link.parent / target)  # Path.resolve() raises for a link to itself
    return not target.is_absolute() and Path(end).is_relative_to(folder.resolve())


def _archive(entries: list[tuple[Path, tarfile.TarInfo]]) -> Iterator[bytes]:
    for path, entry in entries:
        yield entry.tobuf(tarfile.PAX_FORMAT)
        if entry.isreg():
            yield from _contents(path, entry.size)
            yield bytes(-entry.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def _safe_entry(entry: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """An entry that `_archive` could have written: nothing goes through a link, and no link leads out."""
    if not (entry.type == tarfile.REGTYPE or entry.isdir() or entry.issym()) or entry.issparse():
        raise DecodeError("The archive of the folder holds something that is no file, folder or link")
    parent, base = PurePosixPath(entry.name).parent, Path(folder).resolve()
    try:
        honest = (base / parent).resolve(strict=True) == base / parent
    except OSError:
        honest = False
    if not honest:
        raise DecodeError("The archive of the folder holds a path through a link, or to nowhere")
    return tarfile.data_filter(entry, folder)


def _same_trees(left: Path, right: Path) -> bool:
    one, other = (sorted(path.relative_to(folder) for path in folder.rglob("*")) for folder in (left, right))
    return one == other and all(_same(left / path, right / path) for path in one)


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if one.is_file() and other.is_file():
        return same_bytes(one.open("rb"), other.open("rb"))
    return one.is_dir() and other.is_dir()


def _suffix(name: str) -> str:
    """The name's endings, if they are plain, to show in the object key what is stored there."""
    suffix = "".join(PurePosixPath(name).suffixes[-2:])
    plain = len(suffix) <= 16 and all(c.isascii() and (c.isalnum() or c in "._-") for c in suffix)
    return suffix if plain else ""
