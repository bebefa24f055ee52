"""Receivers of metrics and spans on loopback: statsd over UDP, OpenTelemetry over HTTP. They keep what they get."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import Self

from .servers.statsd import statsd_env

__all__ = ["Otlp", "Statsd"]


class Statsd:
    """A statsd server."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self._lines: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def env(self) -> dict[str, str]:
        """Variables that make Airflow send its metrics here."""
        return statsd_env(self.port)

    def counters(self) -> Counter[str]:
        """Our counters, summed up, without Airflow's prefix. What has arrived so far."""
        counters: Counter[str] = Counter()
        for name, value, kind in self._ours():
            if kind == "c":
                counters[name] += int(value)
        return counters

    def timings(self, name: str) -> list[float]:
        """The milliseconds that were sent under a name."""
        return [float(value) for sent, value, kind in self._ours() if sent == name and kind == "ms"]

    def _ours(self) -> Iterator[tuple[str, str, str]]:
        for line in list(self._lines):
            match = re.match(r"airflow\.(xcargo\.[^:,]+)[^:]*:([^|]+)\|(\w+)", line)
            if match:
                yield match[1], match[2], match[3]

    def _receive(self) -> None:
        while not self._stop.is_set():
            try:
                self._lines += self._socket.recv(65536).decode().splitlines()
            except TimeoutError:
                continue


class Otlp:
    """A collector that takes OTLP over HTTP."""

    def __init__(self) -> None:
        self._requests: list[tuple[str, bytes]] = []
        requests = self._requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                requests.append((self.path, body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def env(self, *sections: str) -> dict[str, str]:
        """Variables that make Airflow of any version send ``METRICS`` or ``TRACES`` here."""
        host, port = (str(part) for part in self._server.server_address[:2])
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{host}:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
        }
        for section in sections:
            start = f"AIRFLOW__{section}__OTEL_"
            variables |= {f"{start}ON": "True", f"{start}HOST": host, f"{start}PORT": port}
        return {**variables, "AIRFLOW__METRICS__OTEL_INTERVAL_MILLISECONDS": "500"}

    def metrics(self) -> dict[str, float]:
        """Our metrics without Airflow's prefix: the sum of a counter, the number of records of a histogram or gauge."""
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        latest: dict[str, float] = {}
        for resource in self._parsed("/v1/metrics", ExportMetricsServiceRequest, "resource_metrics"):
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if not metric.name.startswith("airflow.xcargo."):
                        continue
                    data = getattr(metric, metric.WhichOneof("data"))
                    value = sum(getattr(p, "count", 0) or p.as_int or p.as_double for p in data.data_points)
                    name = metric.name.removeprefix("airflow.")
                    latest[name] = max(value, latest.get(name, 0.0))  # cumulative: each export holds all so far
        return latest

    def spans(self) -> list[Any]:
        """All spans."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        resources = self._parsed("/v1/traces", ExportTraceServiceRequest, "resource_spans")
        return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]

    def _parsed(self, path: str, kind: Any, field: str) -> Iterator[Any]:
        for target, body in list(self._requests):
            if target == path:
                request = kind()
                request.ParseFromString(body)
                yield from getattr(request, field)
