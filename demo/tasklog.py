"""Airflow 3's task logs, JSON lines in files, as text for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_task_log(logs: Path, dag_id: str, run_id: str, task_id: str) -> str:
    """The log of the latest try, one line an event, tracebacks below their event.

    A note in brackets when there is no log: the task never started.
    """
    parts = {f"dag_id={dag_id}", f"run_id={run_id}", f"task_id={task_id}"}
    files = [path for path in logs.rglob("attempt=*.log") if parts <= set(path.parts)]
    files.sort(key=lambda path: path.stat().st_mtime)
    if not files:
        return "(no log: the task never started)"
    text = files[-1].read_text(encoding="utf-8", errors="replace")
    return "\n".join(_line(line) for line in text.splitlines())


def _line(line: str) -> str:
    try:
        event: Any = json.loads(line)
    except ValueError:
        return line
    if not isinstance(event, dict):
        return line
    text = f"{event.get('timestamp', '')} {event.get('level', '')}: {event.get('event', '')}"
    for error in reversed(event.get("error_detail") or []):
        for frame in error.get("frames") or []:
            text += f"\n    {frame['filename']}:{frame['lineno']} in {frame['name']}"
        text += f"\n  {error.get('exc_type')}: {error.get('exc_value')}"
    return text
