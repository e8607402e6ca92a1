#!/bin/sh
# Runs the device model's cases under many schedules, and once under AddressSanitizer and ThreadSanitizer. From the root
# of the repository: tests/csrc/device_model/soak.sh [SEEDS] [PYTEST-ARGUMENTS...]; the interpreter is $PYTHON or python.
set -eu
cd "$(dirname "$0")/../../.."
seeds=${1:-10}
[ $# -gt 0 ] && shift
python=${PYTHON:-python}
cases="$python -m pytest -q -p no:cacheprovider -m device_model tests/ops"

# A sanitizer looks for the library of exceptions when it is loaded: it must be there then.
preloaded() { echo "$(g++ -print-file-name="$1") $(g++ -print-file-name=libstdc++.so)"; }

seed=1
while [ "$seed" -le "$seeds" ]; do
    echo "=== seed $seed"
    HYBATCH_DEVICE_MODEL_SEED=$seed $cases "$@"
    seed=$((seed + 1))
done

echo "=== address sanitizer"
$python -m tests.csrc.device_model.build --kind address
HYBATCH_DEVICE_MODEL=address ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$(preloaded libasan.so)" $cases "$@"

# Its reports end in an exit status that is not 0; races of the libraries around the model are none of its affair.
echo "=== thread sanitizer"
$python -m tests.csrc.device_model.build --kind thread
reports=$(mktemp -d)
HYBATCH_DEVICE_MODEL=thread LD_PRELOAD="$(preloaded libtsan.so)" \
    TSAN_OPTIONS="history_size=4 exitcode=0 log_path=$reports/report" \
    $cases -k "shapes or repetition or overflows or sixteen or thresholds_are_made or those_of_float64" "$@"
if grep -l "device_model-thread" "$reports"/report* 2>/dev/null; then
    echo "data races: see $reports"
    exit 1
fi
