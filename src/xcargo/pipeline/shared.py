"""Objects that others put or get by a signed URL: containers, and programs in other languages."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator
from typing import Any

from xcargo.codecs import media
from xcargo.codecs.files import FileCodec
from xcargo.errors import ConfigurationError, IntegrityError, ObjectNotFoundError, SizeLimitError, XCargoError
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.prefetch import prefetch_ordered
from xcargo.stores.base import ObjectInfo, SignedMethod, SigningStore
from xcargo.transfer.reader import truncated
from xcargo.transfer.roots import RenewingStore
from xcargo.types import Buffer

__all__ = ["SharedObject", "check_sharing", "is_decoded"]

_SIGNING = ("s3", "gs", "az")
_READERS = 4
_WINDOW_BYTES = 64 * 1024 * 1024


def check_sharing(settings: Settings) -> Root:
    """The root where objects of these settings can be shared. Makes no request.

    Raises:
        ConfigurationError: The store signs no URLs, or values are encrypted on the client, which a URL goes past.
    """
    root = settings.root
    if root is None or root.scheme not in _SIGNING:
        raise ConfigurationError(
            "No URL can be signed: " + (f"a {root.scheme}:// store has none" if root else settings.no_root_reason),
            where=root,
            hint="Set [xcargo] path, or the path of a route, to S3, Google or Azure. Without one, mount a folder into "
            "the container and return xcargo.File from a task that sees the folder too.",
        )
    if settings.encryption_key is not None:
        raise ConfigurationError(
            "No URL is signed, since values are encrypted here and what is behind a URL is not",
            where=root,
            hint='Let these values be stored unencrypted by a route with "encryption_key": "none" for this task.',
        )
    return root


def is_decoded(media_type: str | None, decode: bool | None) -> bool:
    """Whether an upload becomes the value that it holds: by default of JSON, Arrow and Parquet, on request of CSV too.

    Raises ConfigurationError if it is asked for and cannot be.
    """
    if decode and media_type not in media.SUFFIXES:
        raise ConfigurationError(
            f"{media_type or 'A file of an unknown type'} cannot be decoded",
            hint=f"Give media_type: one of {', '.join(media.SUFFIXES)}.",
        )
    return (media_type in media.SUFFIXES and media_type != media.CSV) if decode is None else decode


class SharedObject:
    """One object below the key of an XCom, without a row. If nobody deletes it, a sweep does.

    Args:
        root: Where it is.
        key: Its object key.
        store: The root's store.
    """

    def __init__(self, root: Root, key: str, store: RenewingStore) -> None:
        self._key = key
        self._store = store
        self._root = root
        self.uri = root.uri(key)

    def signed_url(self, method: SignedMethod, seconds: float) -> str:
        """A URL at which whoever has it may get or put this object, and no other, for so long.

        Raises:
            ConfigurationError: The credentials of the store cannot sign one.
        """
        store = self._store.current
        url = store.signed_url(self._key, seconds, method) if isinstance(store, SigningStore) else None
        if url is None:
            raise ConfigurationError(
                "The credentials of this store cannot sign a URL",
                where=self._root,
                hint="Use access keys or a role on S3 (without ServerSideEncryption in the connection: set the "
                "bucket's default instead), the key file of a service account on Google, an account key on Azure.",
            )
        return url

    def put(self, parts: Iterable[Buffer]) -> None:
        """Store the object. One request, or parallel parts."""
        self._store.put(self._key, parts)

    def delete(self) -> None:
        """Delete it. One request; one that is gone counts as deleted."""
        self._store.delete([self._key])

    def uploaded(self, name: str, *, media_type: str | None, decode: bool | None, max_bytes: int) -> Any:
        """What somebody else put: a `File`, whose bytes are read while it is pushed, or the decoded value.

        One request, and for a value one more for each part.

        Args:
            name: Name of the file.
            media_type: By default what the name's suffix says.
            decode: See `is_decoded`.
            max_bytes: A larger object is deleted.

        Raises:
            ObjectNotFoundError: Nobody put it.
            SizeLimitError: It is larger than ``max_bytes``.
            DecodeError: It is not of its media type.
            IntegrityError: It was put again while it was read.
        """
        media_type = media_type or media.media_type_of(name) or mimetypes.guess_type(name)[0]
        try:
            info = self._store.head(self._key)
            if info.size_bytes > max_bytes:
                self.delete()
                raise SizeLimitError(
                    f"{info.size_bytes} bytes were uploaded, more than max_bytes ({max_bytes})",
                    hint="They were deleted. Upload less, or raise max_bytes.",
                )
            source = _SharedSource(self._store, self.uri, info)
            if is_decoded(media_type, decode):
                return media.decode(b"".join(source.iter_chunks()), str(media_type))
            return FileCodec().open(source, {"name": name, "media_type": media_type})
        except ObjectNotFoundError:
            raise ObjectNotFoundError(
                "Nothing was uploaded",
                where=self.uri,
                hint="Look into the log of the container: its PUT has to be answered with 200 or 201. 403 means that "
                "the URL had expired (give it more expires_seconds), or that the worker's credentials may not write.",
            ) from None
        except XCargoError as error:
            error.at(self.uri)
            raise


class _SharedSource:
    """Source of an object that whoever has its URL may put again: reading all of it notices that."""

    def __init__(self, store: RenewingStore, uri: str, info: ObjectInfo) -> None:
        self._store = store
        self._uri = uri
        self._info = info

    @property
    def size_bytes(self) -> int:
        return self._info.size_bytes

    def read(self, start: int, end: int) -> Buffer:
        end = min(end, self.size_bytes)
        data = self._store.get(self._info.key, start=start, end=end) if start < end else b""
        if len(data) != max(end - start, 0):
            raise truncated(start + len(data), self.size_bytes).at(self._uri)
        return data

    def read_into(self, view: memoryview) -> None:
        filled = 0
        for chunk in self.iter_chunks():
            view[filled : filled + len(chunk)] = chunk
            filled += len(chunk)

    def iter_chunks(self) -> Iterator[Buffer]:
        step = self._store.part_bytes
        starts: Iterable[int] = range(0, self.size_bytes, step)
        yield from prefetch_ordered(
            starts,
            lambda start: self.read(start, start + step),
            size_bytes=lambda _: step,
            workers=_READERS,
            window_bytes=_WINDOW_BYTES,
        )
        if self._store.head(self._info.key).e_tag != self._info.e_tag:
            raise IntegrityError(
                "It was uploaded again while it was read",
                where=self._uri,
                hint="Let the container put it once, before its main process ends.",
            )
