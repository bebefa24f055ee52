"""The way of a value: codec -> compression -> store -> envelope, and back.

One encoding, one put; one get. The object exists before the row does: a crash between leaves an orphan, never a row
that refers to nothing.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

from blake3 import blake3

from xcargo.codecs.base import Encoded
from xcargo.codecs.registry import Registry
from xcargo.errors import DecodeError, EnvelopeError, StoreError, XCargoError
from xcargo.model.coordinate import Coordinate, spellings
from xcargo.model.envelope import Envelope, is_envelope, plain_bytes
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.model.signing import Signer
from xcargo.pipeline.handle import Lazy
from xcargo.pipeline.legacy import expand, resolve
from xcargo.pipeline.observer import Kind, Observer, event_of
from xcargo.stores.base import Limits, SigningStore
from xcargo.stores.pool import StorePool
from xcargo.transfer.chunks import checksum_mismatch
from xcargo.transfer.reader import Fetch
from xcargo.transfer.roots import Places
from xcargo.transfer.size_limits import check_size
from xcargo.transfer.writer import Offload, payload_suffix
from xcargo.types import Json

__all__ = ["Pipeline"]

log = logging.getLogger(__name__)


class Pipeline:
    """Push, pull and purge of values, by settings.

    Raises an :class:`~xcargo.errors.XCargoError` that names the XCom or the object. ``describe`` may change a preview
    before it is written (Airflow masks its secrets there). ``observe`` is told what was done. ``team`` gives the team
    of the task that runs here, empty if it has none; None outside of tasks, where teams are not told apart.
    """

    def __init__(
        self,
        settings: Settings,
        codecs: Registry,
        stores: StorePool,
        *,
        describe: Callable[[str], str] = str,
        observe: Observer | None = None,
        team: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.settings = settings
        self._codecs = codecs
        self._observe = observe
        self._describe = describe
        self._team = team
        self._signer = Signer(settings.signing_keys, settings.unsigned_until)
        self._places = Places(settings, stores, team)
        self._limits = Limits.from_settings(settings)
        self._purge_limits = Limits.from_settings(
            settings, timeout_seconds=settings.purge_timeout_seconds, max_concurrency=1
        )
        self._offload = Offload(settings, self._places, self._limits, describe)
        self._fetch = Fetch(settings, self._places, self._limits)

    @property
    def plain_limit(self) -> float:
        """Bytes of JSON up to which :meth:`push` gives a plain value back for any coordinate, and does no more."""
        simple = self._observe is None and not self.settings.routes
        sized = self.settings.max_size_bytes or self.settings.warn_size_bytes
        threshold = self.settings.threshold_bytes
        return 0 if sized or not simple else math.inf if threshold < 0 else threshold

    def push(self, value: Any, coordinate: Coordinate, *, inline_only: bool = False) -> Json:
        """The row for a value, after its object, if it needs one, is stored.

        A value whose size is above ``threshold_bytes`` is offloaded: one request. Size is the length of its compact
        JSON if the row can hold it as it is (:func:`~xcargo.model.envelope.is_plain`), of its payload otherwise.
        ``inline_only`` keeps it in the row whatever its size.
        """
        started = time.perf_counter()
        try:
            row = self._push(value, coordinate, inline_only)
        except Exception as error:
            self._tell("push", started, None, error)
            raise
        self._tell("push", started, row)
        return row

    def _push(self, value: Any, coordinate: Coordinate, inline_only: bool) -> Json:
        settings = self.settings
        if settings.routes:
            settings = settings.for_xcom(coordinate, self._team())
        threshold = settings.threshold_bytes if not inline_only else -1
        limit = math.inf if threshold < 0 else threshold
        size = None if limit == 0 else plain_bytes(value, limit)
        try:
            if size is not None and size <= limit:
                if settings.max_size_bytes or settings.warn_size_bytes:
                    check_size(value, size, settings, coordinate, self._describe)
                return value  # type: ignore[no-any-return]
            encoded = self._codecs.encode(value)
            payload_bytes = encoded.size_bytes
            if payload_bytes is None:
                encoded = _begun(encoded, limit)
                payload_bytes = encoded.size_bytes
            if payload_bytes is not None and (settings.max_size_bytes or settings.warn_size_bytes):
                check_size(value, payload_bytes, settings, coordinate, self._describe)
            if limit == 0 or size is not None or payload_bytes is None or payload_bytes > limit:
                return self._signer.signed(self._offload.store(value, encoded, coordinate, settings).to_row())
            return self._inline(value, encoded, settings, coordinate)
        except XCargoError as error:
            error.at(coordinate)
            raise

    def enveloped(self, value: Any, coordinate: Coordinate) -> Json:
        """The row that holds a value in an envelope although it could stand there as it is. No request."""
        return self._inline(value, self._codecs.encode(value), self.settings, coordinate)

    def _inline(self, value: Any, encoded: Encoded, settings: Settings, coordinate: Coordinate) -> Json:
        envelope = self._offload.inline(value, encoded, settings)
        if self._signer.signs:
            envelope = replace(envelope, dag=coordinate.dag_id)
        return self._signer.signed(envelope.to_row())

    def pull(self, row: Any, dag_id: str | None = None) -> Any:
        """The value of a row that is an envelope. One request if it refers to an object.

        ``dag_id``, if known, is the Dag whose row it is: an envelope of another Dag's value is refused.
        """
        started = time.perf_counter()
        try:
            value = self._pull(row, dag_id)
        except Exception as error:
            self._tell("pull", started, row, error)
            raise
        self._tell("pull", started, row)
        return value

    def _pull(self, row: Any, dag_id: str | None) -> Any:
        envelope = self._believed(row, dag_id)
        try:
            return self._lazy(envelope).load()
        except XCargoError as error:
            if envelope.uri:
                error.at(envelope.uri)
            raise

    def verify(self, row: Any, dag_id: str | None = None) -> None:
        """Read the object of an envelope back and check all of it; raises what a pull would raise. Decodes nothing.

        One request, or several in turn for a large object, of which memory holds a bounded part.
        """
        envelope = self._believed(row, dag_id)
        try:
            self._fetch.verify(envelope)
        except XCargoError as error:
            error.at(envelope.uri)
            raise

    def stored_anew(self, row: Any, coordinate: Coordinate) -> Json:
        """The row for the same payload after it was put where, and as, the settings say now. Decodes nothing.

        Both objects were read, verified and found to hold the same payload when it returns. One get, one put and one
        get more; memory holds a bounded part of a large object.
        """
        old = self._believed(row, coordinate.dag_id)
        settings = self.settings.for_xcom(coordinate, self._team()) if self.settings.routes else self.settings
        try:
            read, payload = self._fetch.hashed(old)
            encoded = Encoded(old.codec, payload, old.params, payload_suffix(old), old.size_bytes)
            new = self._offload.store(None, encoded, coordinate, settings)
            preview = (old.preview or "")[: settings.preview_chars] or None
            new = replace(new, type=old.type, preview=preview, created_at=old.created_at)
            back, payload = self._fetch.hashed(new)
            for _ in payload:
                pass
        except XCargoError as error:
            error.at(coordinate)
            raise
        if back() != read():
            raise checksum_mismatch().at(new.uri)
        return self._signer.signed(new.to_row())

    def delete(self, root: Root, key: str) -> None:
        """Delete an object below a root. One request; one that is gone counts as deleted."""
        self._places.work(root, self._limits, lambda store: store.delete([key]))

    def payload_of(self, value: Any) -> bytes:
        """A hash of the payload that a value is encoded as: equal for equal values, but for sets and the like."""
        digest = blake3()
        for part in self._codecs.encode(value).parts:
            digest.update(part)
        return digest.digest()

    def handle(self, row: Any, dag_id: str | None = None) -> Lazy:
        """A handle of the value of a row, envelope or plain. No request."""
        if is_envelope(row):
            return self._lazy(self._believed(row, dag_id))
        return self._lazy(self._offload.inline(row, self._codecs.encode(row), self.settings))

    def signed_url(self, row: Any, dag_id: str, seconds: float) -> str | None:
        """A URL at which whoever has it reads the payload of a row for so long, past any check of its checksum.

        None where the object is not the payload itself (compressed, encrypted, in the row), or its store signs none.
        Raises ObjectNotFoundError if the object is gone. One request.
        """
        envelope = self._believed(row, dag_id)
        as_it_is = envelope.compression == "none" and not envelope.encryption
        if envelope.uri is None or not as_it_is or envelope.stored_bytes != envelope.size_bytes:
            return None
        root, key = self._places.of(envelope.uri)
        if not isinstance(self._places.store(root, self._limits), SigningStore):
            return None
        self._places.work(root, self._limits, lambda store: store.head(key))
        store = self._places.store(root, self._limits)  # another one, if credentials had to be looked up again
        try:
            return store.signed_url(key, seconds) if isinstance(store, SigningStore) else None
        except StoreError as error:
            log.warning("xcargo could not sign a URL, and streams the object: %s", type(error).__name__)
            return None

    def _believed(self, row: Any, dag_id: str | None) -> Envelope:
        """The envelope of a row, if it may be followed: signed, where there is a key, and of the row's own Dag."""
        envelope = Envelope.from_row(row)
        self._signer.verify(row)
        if dag_id:
            if envelope.uri is not None:
                found, allowed = self._places.of(envelope.uri)[1].partition("/")[0], spellings(dag_id)
            else:
                found, allowed = envelope.dag or dag_id, (dag_id,)
            if found not in allowed:
                raise EnvelopeError(
                    f"A row of Dag {dag_id!r} refers to a value of Dag {found!r}",
                    where=envelope.uri,
                    hint="It was copied or made up; look at who wrote the XCom.",
                )
        return envelope

    def _lazy(self, envelope: Envelope) -> Lazy:
        return Lazy(self._codecs, envelope, lambda: self._fetch.source(envelope))

    def pull_legacy(self, text: str, load_json: Callable[[str], Any]) -> Any:
        """The value behind a string that another backend left, or the string itself if it is no reference."""
        reference = resolve(text, self.settings.legacy_roots)
        if reference is None:
            return text
        where = reference.root.uri(reference.key)
        data = self._places.work(reference.root, self._limits, lambda store: store.get(reference.key))
        try:
            return load_json(expand(reference, data).decode("utf-8"))
        except XCargoError as error:
            error.at(where)
            raise
        except ValueError as error:
            raise DecodeError(f"The old object is not JSON: {error}", where=where) from error

    def purge(self, row: Any, dag_id: str | None = None) -> bool:
        """Delete the object of a row, if the row is one of our envelopes; one that is gone counts as deleted.

        Never raises, never takes longer than ``purge_timeout_seconds``: a purge that fails leaves an orphan and a line
        in the log. Returns whether an object was deleted. One request.
        """
        started = time.perf_counter()
        try:
            if not is_envelope(row):
                return False
            envelope = self._believed(row, dag_id)
            if envelope.uri is None:
                return False
            root, key = self._places.of(envelope.uri)
            store = self._places.store(root, self._purge_limits)
        except Exception as error:
            log.warning("xcargo left the object of a cleared XCom in place: %s", error)
            self._tell("purge", started, row, error)
            return False
        failures: list[BaseException] = []

        def delete() -> None:
            try:
                store.delete([key])
            except BaseException as error:
                failures.append(error)

        # A thread of its own, since nothing else bounds what a name server or a file system may take.
        thread = threading.Thread(target=delete, name="xcargo-purge", daemon=True)
        thread.start()
        thread.join(self.settings.purge_timeout_seconds)
        if thread.is_alive():
            log.warning("xcargo gave up deleting %s after %s s", envelope.uri, self.settings.purge_timeout_seconds)
            self._tell("purge", started, row, TimeoutError())
            return False
        if failures:
            log.warning("xcargo left an object in place: %s", failures[0])
        self._tell("purge", started, row, *failures)
        return not failures

    def _tell(self, kind: Kind, started: float, row: Any, error: BaseException | None = None) -> None:
        if self._observe is None:
            return
        seconds = time.perf_counter() - started
        try:
            self._observe(event_of(kind, seconds, row, error))
        except Exception:
            log.warning("xcargo could not tell of a %s", kind, exc_info=True)


def _begun(encoded: Encoded, limit: float) -> Encoded:
    """The same, its payload made until it is known to be above ``limit``, or to its end."""
    parts, begun, size = iter(encoded.parts), [], 0
    for part in parts:
        begun.append(part)
        size += len(part)
        if size > limit:
            return replace(encoded, parts=chain(begun, parts))
    return replace(encoded, parts=begun)
