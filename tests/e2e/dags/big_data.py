"""Files, folders, streams, tables larger than a batch, and handles on them, from task to task."""

from __future__ import annotations

import hashlib
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pyarrow as pa
from airflow.sdk import dag, task

import xcargo

ROWS, BATCHES = 20_000, 50


def _table(n: int) -> pa.RecordBatch:
    start = n * ROWS
    return pa.record_batch({"n": range(start, start + ROWS), "text": [f"row {i}" for i in range(start, start + ROWS)]})


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc))
def big_data() -> None:
    @task
    def a_file() -> xcargo.File:
        path = Path(tempfile.mkdtemp()) / "report.csv"
        path.write_text("n\n" + "\n".join(map(str, range(2_000_000))))
        return xcargo.File(path)

    @task
    def read_file(report: xcargo.File) -> None:
        assert report.name == "report.csv"
        with report.open() as file:
            file.seek(-8, 2)
            assert file.read() == b"\n1999999"
        assert Path(report.path).stat().st_size == report.size_bytes

    @task
    def a_folder() -> xcargo.Directory:
        folder = Path(tempfile.mkdtemp()) / "model"
        (folder / "layers").mkdir(parents=True)
        (folder / "layers" / "0.bin").write_bytes(bytes(range(256)) * 4096)
        return xcargo.Directory(folder)

    @task
    def read_folder(model: xcargo.Directory) -> None:
        assert (model / "layers/0.bin").read_bytes() == bytes(range(256)) * 4096

    @task
    def a_stream() -> object:
        return (bytes([n]) * 1_000_000 for n in range(20))

    @task
    def read_stream(stream: xcargo.ByteStream) -> str:
        digest = hashlib.sha256()
        for piece in stream:
            digest.update(piece)
        return digest.hexdigest()

    @task
    def batches() -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(_table(0).schema, (_table(n) for n in range(BATCHES)))

    @task
    def read_batches(reader: pa.RecordBatchReader) -> int:
        return sum(batch.num_rows for batch in reader)

    @task
    def query(table: xcargo.Lazy) -> list[object]:
        last = table.to_arrow(columns=["n"], rows=slice(ROWS * BATCHES - 2, ROWS * BATCHES))
        found = table.scan().filter(pl.col("n") == 12_345).collect()
        return [table.type, list(table.columns or ()), last.column("n").to_pylist(), found["text"].item()]

    @task
    def piece(n: int) -> pa.RecordBatch:
        return _table(n)

    @task
    def together(pieces: list[xcargo.Lazy]) -> int:
        return sum(handle.to_arrow(columns=["n"], rows=slice(0, 1)).column("n")[0].as_py() for handle in pieces)

    read_file(a_file())
    read_folder(a_folder())
    read_stream(a_stream())
    table = batches()
    read_batches(table)
    query(xcargo.lazy(table))
    together(xcargo.lazy(piece.expand(n=[1, 2, 3])))


big_data()
