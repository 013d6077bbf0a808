#!/usr/bin/env bash
# Create .venv with everything this project needs. Run again at any time: the second time takes a moment.
#   bash scripts/setup.sh requirements-serve.txt requirements files of optional packages, too
#   PYTHON=python3.12 bash scripts/setup.sh      another interpreter (3.11 to 3.13)
#   UNPINNED=1 bash scripts/setup.sh             newest versions that requirements.txt allows
set -euo pipefail
cd "$(dirname "$0")/.."

interpreter=${PYTHON:-python3}
stamp=.venv/installed.txt
pins=(--constraint constraints.txt)
[ -z "${UNPINNED:-}" ] || pins=()
install() {
  .venv/bin/python -m pip install --quiet --disable-pip-version-check ${pins[@]+"${pins[@]}"} -r "$1"
}

wanted=$({ "$interpreter" --version; cat requirements.txt constraints.txt; echo "${UNPINNED:-}"; } | cksum)
if [ ! -x .venv/bin/python ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  "$interpreter" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "error: $("$interpreter" --version) is not supported; set PYTHON to a Python 3.11 to 3.13" >&2
    exit 2
  }
  echo "installing into .venv (once; about three minutes)"
  [ -x .venv/bin/python ] || "$interpreter" -m venv .venv
  install requirements.txt
  printf '%s\n' "$wanted" > "$stamp"
fi
for file in "$@"; do
  wanted=$(cat "$stamp" "$file" | cksum)
  stamp_of_file=.venv/installed-$file
  if [ "$(cat "$stamp_of_file" 2>/dev/null)" != "$wanted" ]; then
    install "$file"
    printf '%s\n' "$wanted" > "$stamp_of_file"
  fi
done
