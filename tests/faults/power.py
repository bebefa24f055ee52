"""What a disk may hold after a power loss, by the calls that processes had made until then.

The file system of this model keeps what was flushed, and nothing else for sure. Any other change may have been written
or not, whatever came before or after it: each name that was made or removed (a rename is both), and of the bytes of a
file none, the first half, zeros in place of them, or all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product

__all__ = ["Disk", "Files"]

Files = dict[str, bytes]
"""Path -> content, of all files that are there."""
_Change = tuple[int, str, int | None]
"""Folder, name, and the file or folder that the name now stands for."""

_TOP, _OUTSIDE = 0, -1


class Disk:
    """A disk below ``top``, a folder that was there before. ``do`` takes the lines that calls.c notes, one by one."""

    def __init__(self, top: str) -> None:
        self._top = top
        self._numbers = 0
        self._descriptors: dict[int, int] = {}
        self._names: dict[int, dict[str, int]] = {_TOP: {}}
        self._data: dict[int, bytes] = {}
        self._kept_names: dict[tuple[int, str], int | None] = {}
        self._kept_data: dict[int, bytes] = {}
        self._pending: list[_Change] = []

    def do(self, call: str) -> None:
        """Make a call."""
        name, *words = call.split(" ")
        getattr(self, f"_{name}")(*words)

    def files(self) -> Files:
        """What programs see, before any power loss."""
        current = {(folder, name): n for folder, names in self._names.items() for name, n in names.items()}
        return {path: self._data[n] for path, n in self._reached(current).items()}

    def crashes(self) -> Iterator[Files]:
        """Each state in which the disk may be found if power is lost now."""
        for size in range(len(self._pending) + 1):
            for written in combinations(self._pending, size):
                names = {**self._kept_names, **{(folder, name): n for folder, name, n in written}}
                paths = self._reached(names)
                numbers = sorted(set(paths.values()))
                for contents in product(*map(self._contents, numbers)):
                    content = dict(zip(numbers, contents, strict=True))
                    yield {path: content[n] for path, n in paths.items()}

    def _contents(self, number: int) -> set[bytes]:
        kept, data = self._kept_data[number], self._data[number]
        added = len(data) - len(kept)
        return {kept, data, data[: len(kept) + added // 2], kept + bytes(added)}

    def _reached(self, names: Mapping[tuple[int, str], int | None]) -> dict[str, int]:
        """Path of each file that has one -> its number."""
        paths, folders = {}, [(_TOP, self._top)]
        while folders:
            folder, path = folders.pop()
            for (parent, name), number in names.items():
                if parent != folder or number is None:
                    continue
                if number in self._data:
                    paths[f"{path}/{name}"] = number
                else:
                    folders.append((number, f"{path}/{name}"))
        return paths

    def _place(self, path: str) -> tuple[int, str]:
        *folders, name = path.removeprefix(self._top).strip("/").split("/")
        number = _TOP
        for folder in folders:
            number = self._names[number][folder]
        return number, name

    def _number(self, path: str) -> int:
        if not path.startswith(self._top + "/"):
            return _TOP if path == self._top else _OUTSIDE
        folder, name = self._place(path)
        return self._names[folder][name]

    def _set(self, path: str, number: int | None) -> None:
        folder, name = self._place(path)
        self._pending.append((folder, name, number))
        if number is None:
            del self._names[folder][name]
        else:
            self._names[folder][name] = number

    def _new(self) -> int:
        self._numbers += 1
        return self._numbers

    def _mkdir(self, path: str) -> None:
        number = self._new()
        self._names[number] = {}
        self._set(path, number)

    def _create(self, descriptor: str, path: str) -> None:
        number = self._new()
        self._data[number] = self._kept_data[number] = b""
        self._set(path, number)
        self._open(descriptor, path)

    def _open(self, descriptor: str, path: str) -> None:
        self._descriptors[int(descriptor)] = self._number(path)

    def _write(self, descriptor: str, data: str) -> None:
        self._data[self._descriptors[int(descriptor)]] += bytes.fromhex(data)

    def _fsync(self, descriptor: str) -> None:
        number = self._descriptors[int(descriptor)]
        if number in self._data:
            self._kept_data[number] = self._data[number]
        self._kept_names.update({(folder, name): n for folder, name, n in self._pending if folder == number})
        self._pending = [change for change in self._pending if change[0] != number]

    def _rename(self, old: str, new: str) -> None:
        self._link(old, new)
        self._unlink(old)

    def _link(self, old: str, new: str) -> None:
        self._set(new, self._number(old))

    def _unlink(self, path: str) -> None:
        self._set(path, None)
