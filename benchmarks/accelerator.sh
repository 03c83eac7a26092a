#!/usr/bin/env bash
# Measures an accelerator, unattended, on a machine without a network: the workloads of `dnabert bench` beside their
# peer, what might make them faster, the best of it together, and pretraining for the minutes that are left.
#
#   benchmarks/accelerator.sh [--out DIR] [--wheels DIR] [--python python3] [--minutes 25] [--fasta FILE]
#                             [--size base|tiny] [--phases main variants best pretrain]
#
# DIR/table.md, DIR/log.txt and the JSON grow as it goes. Exit status 0 if the main figures were measured, 2 for bad
# flags. docs/benchmark.md says how to fill the folder of wheels; jax and torch of the machine are never replaced.
set -euo pipefail
began=$(date +%s)
root=$(cd "$(dirname "$0")/.." && pwd)

out=accelerator python=python3 wheels=() passed=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help)
      sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --out | --python | --wheels)
      if [ $# -lt 2 ]; then
        echo "error: $1 has no value; expected one" >&2
        exit 2
      fi
      case $1 in
        --out) out=$2 ;;
        --python) python=$2 ;;
        --wheels) wheels=(--wheels "$2") ;;
      esac
      shift 2
      ;;
    *)
      passed+=("$1")
      shift
      ;;
  esac
done

if ! command -v "$python" > /dev/null; then
  echo "error: --python $python: no such program; expected the Python that has JAX" >&2
  exit 2
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
status=0
"$python" "$root/benchmarks/environment.py" --at "$out/environment" ${wheels[@]+"${wheels[@]}"} 2>&1 |
  tee -a "$out/log.txt" || status=${PIPESTATUS[0]}
# What is missing may turn out not to be needed: the measurements are tried all the same.
if [ "$status" = 2 ]; then
  exit 2
fi

export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$out/environment/bin/python" "$root/benchmarks/unattended.py" --out "$out" --began "$began" \
  ${passed[@]+"${passed[@]}"}
