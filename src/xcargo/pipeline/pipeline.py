"""The way of a value: codec -> compression -> store -> envelope, and back.

One encoding, one put; one get. The object exists before the row does: a crash between leaves an orphan, never a row
that refers to nothing.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from xcargo.codecs.base import Encoded
from xcargo.codecs.registry import Registry
from xcargo.codecs.source import Source
from xcargo.errors import DecodeError, EnvelopeError, StoreError, XCargoError
from xcargo.model.coordinate import Coordinate, spellings
from xcargo.model.envelope import Envelope, is_envelope, plain_bytes
from xcargo.model.key_order import marked
from xcargo.model.keys import Signer
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.handle import REUSED, Lazy
from xcargo.stores import StorePool
from xcargo.stores.base import Limits, SigningStore
from xcargo.transfer.chunks import checksum_mismatch
from xcargo.transfer.compression import decompress_by_suffix
from xcargo.transfer.description import check_size
from xcargo.transfer.roots import RenewingStore, RootResolver
from xcargo.transfer.writer import ObjectWriter, described_as, payload_suffix
from xcargo.types import Buffer, Json

if TYPE_CHECKING:
    from xcargo.pipeline.observer import Kind, Observer
    from xcargo.pipeline.shared import SharedObject
    from xcargo.transfer.reader import ObjectReader

__all__ = ["Pipeline", "RowRules"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowRules:
    """What the release of Airflow around this process asks of rows."""

    takes_none: bool = True
    """Whether a row may be None."""
    control_keys: re.Pattern[str] = re.compile("(?!)")
    """XCom keys whose rows Airflow itself reads as they are."""


class Pipeline:
    """Push, pull and purge of values, by settings.

    Raises an `XCargoError` that names the XCom or the object.

    Args:
        settings: How values are stored.
        codecs: Turn values into payloads and back.
        stores: Open the stores of the configured roots.
        rules: What Airflow asks of rows.
        mask: Hides secrets in what an envelope or a log shows of a value.
        observer: Receives an event for each push, pull and purge.
        team: Gives the team of the task that runs here, empty if it has none; None outside of tasks, where every
            root is open.
    """

    def __init__(
        self,
        settings: Settings,
        codecs: Registry,
        stores: StorePool,
        *,
        rules: RowRules | None = None,
        mask: Callable[[str], str] = str,
        observer: Observer | None = None,
        team: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.rules = rules or RowRules()
        self.codecs = codecs
        self._stores = stores
        self._mask = mask
        self._observer = observer
        self._team = team
        self._limit = _limit(settings)
        sized = any(variant.max_size_bytes or variant.warn_size_bytes for variant in settings.variants)
        self._takes_plain = self.rules.takes_none and not settings.keep_key_order and not sized
        """Whether a small plain value is its own row, and nothing else is to be done for it."""
        self.signer = Signer(settings.signing_keys, settings.unsigned_until)
        self.roots = RootResolver(settings, stores, team=team)
        self._writer = ObjectWriter(settings, self.roots, mask=mask)
        self._purge_limits = Limits.from_settings(
            settings, timeout_seconds=settings.purge_timeout_seconds, max_concurrency=1
        )

    @cached_property
    def _reader(self) -> ObjectReader:
        from xcargo.transfer.reader import ObjectReader

        return ObjectReader(self.settings, self.roots)

    def push(self, value: Any, coordinate: Coordinate) -> Json:
        """The row for a value, after its object, if it needs one, is stored.

        A value whose size is above ``threshold_bytes`` goes to object storage: one request. Size is the length of its
        compact JSON if the row can hold it as it is (`is_plain`), of its payload otherwise. The value of a control key
        stays in its row whatever its size. What is stored already, a handle or a file that was not downloaded, is
        copied by the store itself if it stays below its root.
        """
        observed = self._observer is not None
        started = time.perf_counter() if observed else 0.0
        try:
            settings, limit = self.settings, self._limit
            if settings.routes:
                settings = settings.for_xcom(coordinate, self._team())
                limit = _limit(settings)
            kind = type(value)
            if kind in REUSED:
                return value.row  # type: ignore[no-any-return]
            if kind is Lazy and not value.is_stored:
                value = value.load()
            size = plain_bytes(value, limit) if limit else None
            if self._takes_plain and size is not None and size <= limit:
                row = value
            else:
                row = self._row(value, coordinate, settings, size)
        except Exception as error:
            if isinstance(error, XCargoError):
                error.at(coordinate)
            self._emit("push", started, None, error=error)
            raise
        if observed:
            if row is value and size in (None, math.inf):  # a control key's, measured up to the limit at most
                size = plain_bytes(value, math.inf)
            self._emit("push", started, row, plain_bytes=size or 0)
        return row  # type: ignore[no-any-return]

    def _row(self, value: Any, coordinate: Coordinate, settings: Settings, plain_size: float | None) -> Any:
        """The row of a value, wherever it goes; ``plain_size`` is that of its JSON, as far as it was measured."""
        limit = self._limit if settings is self.settings else _limit(settings)
        if self.rules.control_keys.fullmatch(coordinate.key):
            if plain_bytes(value, math.inf) is not None:
                return value
            limit, plain_size = math.inf, None
            settings = replace(settings, threshold_bytes=-1)
        elif value is None and not self.rules.takes_none:
            limit, plain_size = math.inf, None
        if plain_size is not None and plain_size <= limit:
            check_size(value, plain_size, settings, coordinate, self._mask)
            return marked(value) if settings.keep_key_order else value
        encoded = self.codecs.encode(value, settings)
        payload_bytes = encoded.size_bytes
        if payload_bytes is None:
            encoded = _measured(encoded, limit)
            payload_bytes = encoded.size_bytes
        if payload_bytes is not None:
            check_size(value, payload_bytes, settings, coordinate, self._mask)
        if limit == 0 or plain_size is not None or payload_bytes is None or payload_bytes > limit:
            return self.signer.signed(self._writer.store(value, encoded, coordinate, settings).to_row())
        return self._inline(value, encoded, coordinate, settings)

    def push_inline(self, value: Any, coordinate: Coordinate) -> Json:
        """The row that holds a value in an envelope although it could stand there as it is. No request."""
        return self._inline(value, self.codecs.encode(value), coordinate, self.settings)

    def _inline(self, value: Any, encoded: Encoded, coordinate: Coordinate, settings: Settings) -> Json:
        envelope = self._writer.inline(value, encoded, settings)
        if self.signer.signs:
            envelope = replace(envelope, dag=coordinate.dag_id)
        return self.signer.signed(envelope.to_row())

    def pull(self, row: Any, dag_id: str | None = None) -> Any:
        """The value of a row that is an envelope. One request if it refers to an object.

        ``dag_id``, if known, is the Dag whose row it is: an envelope of another Dag's value is refused.
        """
        started = time.perf_counter()
        try:
            value = self._load(self._verified_envelope(row, dag_id))
        except Exception as error:
            self._emit("pull", started, row, error=error)
            raise
        self._emit("pull", started, row)
        return value

    def _load(self, envelope: Envelope) -> Any:
        try:
            return self._lazy(envelope).load()
        except XCargoError as error:
            if envelope.uri:
                error.at(envelope.uri)
            raise

    def handle(self, row: Any, dag_id: str | None = None) -> Lazy:
        """A handle of the value of a row, envelope or plain. No request."""
        if is_envelope(row):
            return self._lazy(self._verified_envelope(row, dag_id))
        return self._lazy(self._writer.inline(row, self.codecs.encode(row), self.settings))

    def settings_for(self, coordinate: Coordinate) -> Settings:
        """The settings that apply to one XCom."""
        return self.settings.for_xcom(coordinate, self._team())

    def source(self, row: Any, dag_id: str | None = None) -> Source:
        """The payload of a row that is an envelope, to be read in parts. No request."""
        return self._reader.source(self._verified_envelope(row, dag_id))

    def _lazy(self, envelope: Envelope) -> Lazy:
        return Lazy(self.codecs, envelope, lambda: self._reader.source(envelope))

    def _verified_envelope(self, row: Any, dag_id: str | None) -> Envelope:
        """The envelope of a row, if it may be followed: signed, where there is a key, and of the row's own Dag."""
        envelope = Envelope.from_row(row)
        self.signer.verify(row)
        if dag_id:
            if envelope.uri is not None:
                owner, allowed = self.roots.resolve(envelope.uri)[1].partition("/")[0], spellings(dag_id)
            else:
                owner, allowed = envelope.dag or dag_id, (dag_id,)
            if owner not in allowed:
                raise EnvelopeError(
                    f"A row of Dag {dag_id!r} refers to a value of Dag {owner!r}",
                    where=envelope.uri,
                    hint="It was copied or made up; look at who wrote the XCom.",
                )
        return envelope

    def pull_legacy(self, text: str, load_json: Callable[[str], Any]) -> Any:
        """The value behind a string that another backend left, or the string itself if it is no reference."""
        reference = self.settings.legacy_reference(text)
        if reference is None:
            return text
        root, key = reference
        where = root.uri(key)
        data = self.roots.legacy_store(root, key).get(key)
        try:
            return load_json(decompress_by_suffix(key, data).decode("utf-8"))
        except XCargoError as error:
            error.at(where)
            raise
        except ValueError as error:
            raise DecodeError(f"The old object is not JSON: {error}", where=where) from error

    def verify(self, row: Any, dag_id: str | None = None) -> None:
        """Read the object of an envelope back and check all of it; raises what a pull would raise. Decodes nothing.

        One request, or several in turn for a large object, of which memory holds a bounded part.
        """
        envelope = self._verified_envelope(row, dag_id)
        try:
            self._reader.verify(envelope)
        except XCargoError as error:
            envelope.explain(error)
            error.at(envelope.uri)
            raise

    def rewrite(self, row: Any, coordinate: Coordinate) -> Json:
        """The row for the same payload stored again as the settings say now. Decodes nothing.

        When it returns, both objects were read and verified to hold the same payload. One get, one put and one
        get more; memory holds a bounded part of a large object.
        """
        old = self._verified_envelope(row, coordinate.dag_id)
        settings = self.settings_for(coordinate)
        settings = replace(settings, max_size_bytes=0, warn_size_bytes=0)  # these are for what a task returns
        before, after = blake3(), blake3()
        try:
            payload = _hashed(self._reader.iter_payload(old), before)
            encoded = Encoded(old.codec, payload, old.params, payload_suffix(old), old.size_bytes)
            new = self._writer.store(None, encoded, coordinate, settings)
            new = replace(new, created_at=old.created_at, **described_as(old, settings))
            for _ in _hashed(self._reader.iter_payload(new), after):
                pass
        except XCargoError as error:
            error.at(coordinate)
            raise
        if after.digest() != before.digest():
            raise checksum_mismatch().at(new.uri)
        return self.signer.signed(new.to_row())

    def signed_url(self, row: Any, dag_id: str, seconds: float) -> str | None:
        """A URL at which whoever has it reads the payload of a row for so long, past any check of its checksum.

        None where the object is not the payload itself (compressed, encrypted, in the row), or its store signs none.
        Raises ObjectNotFoundError if the object is gone. One request.
        """
        envelope = self._verified_envelope(row, dag_id)
        as_it_is = envelope.compression == "none" and not envelope.encryption
        if envelope.uri is None or not as_it_is or envelope.stored_bytes != envelope.size_bytes:
            return None
        root, key = self.roots.resolve(envelope.uri)
        store = self.roots.store(root)
        if not isinstance(store.current, SigningStore):
            return None
        store.head(key)
        signing = store.current  # another one, if credentials had to be looked up again
        try:
            return signing.signed_url(key, seconds) if isinstance(signing, SigningStore) else None
        except StoreError as error:
            log.warning("xcargo could not sign a URL, and streams the object: %s", type(error).__name__)
            return None

    def shared(self, coordinate: Coordinate, unique: str, suffix: str) -> SharedObject:
        """The object of this name beside those of an XCom, to be put or got by URL. See `check_sharing`. No request."""
        from xcargo.pipeline.shared import SharedObject, check_sharing

        root = check_sharing(self.settings_for(coordinate))
        key = coordinate.object_key(suffix=suffix, unique=unique)
        return SharedObject(root, key, self.roots.store(root))

    def purge(self, row: Any, dag_id: str | None = None) -> bool:
        """Delete the object of a row, if the row is one of our envelopes; one that is gone counts as deleted.

        Never raises, never takes longer than ``purge_timeout_seconds``: a purge that fails leaves an orphan and a line
        in the log. Returns whether an object was deleted. One request.
        """
        if not is_envelope(row):
            return False
        started = time.perf_counter()
        error: BaseException | None = None
        try:
            envelope = self._verified_envelope(row, dag_id)
            if envelope.uri is None:
                return False
            root, key = self.roots.resolve(envelope.uri)
            error = self._delete_in_time(root, lambda store: store.delete([key]), key)
        except Exception as refusal:
            error = refusal
        if error is not None:
            log.warning("xcargo left the object of a cleared XCom in the store: %s", error)
        self._emit("purge", started, row, error=error)
        return error is None

    def _delete_in_time(self, root: Root, delete: Callable[[RenewingStore], None], key: str) -> BaseException | None:
        """Delete what is at or below a key within ``purge_timeout_seconds``. Returns why it was not deleted."""
        self._stores.store(root, self._purge_limits)  # the connection is looked up on this thread
        store = RenewingStore(self._stores, root, self._purge_limits)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                delete(store)
            except BaseException as error:
                failures.append(error)

        # A thread of its own, since nothing else bounds what a name server or a file system may take.
        thread = threading.Thread(target=run, name="xcargo-purge", daemon=True)
        thread.start()
        thread.join(self.settings.purge_timeout_seconds)
        if thread.is_alive():
            return TimeoutError(f"{root.uri(key)} was not deleted within {self.settings.purge_timeout_seconds} s")
        return failures[0] if failures else None

    def _emit(
        self, kind: Kind, started: float, row: Any, *, plain_bytes: float = 0, error: BaseException | None = None
    ) -> None:
        if self._observer is None:
            return
        from xcargo.pipeline.observer import event_of

        seconds = time.perf_counter() - started
        try:
            self._observer(event_of(kind, seconds, row, plain_bytes=plain_bytes, error=error))
        except Exception:
            log.warning("xcargo could not report a %s", kind, exc_info=True)


def _limit(settings: Settings) -> float:
    """Bytes up to which a value stays in its row."""
    return math.inf if settings.threshold_bytes < 0 else settings.threshold_bytes


def _measured(encoded: Encoded, limit: float) -> Encoded:
    """The same with a known size, or with an iterator of parts if that is above ``limit``."""
    parts, taken, size = iter(encoded.parts), [], 0
    for part in parts:
        taken.append(part)
        size += len(part)
        if size > limit:
            return replace(encoded, parts=chain(taken, parts))
    return replace(encoded, parts=taken)


def _hashed(pieces: Iterable[Buffer], digest: Any) -> Iterator[Buffer]:
    """The pieces of a payload as they pass, each added to a hash."""
    for piece in pieces:
        digest.update(piece)
        yield piece
