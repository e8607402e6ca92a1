#!/bin/sh
# Runs the device model's cases under many schedules, all once more under AddressSanitizer and a few under
# ThreadSanitizer: soak.sh [SEEDS] [PYTEST-ARGUMENTS...]. The interpreter is $PYTHON or python.
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

echo "=== thread sanitizer"
$python -m tests.csrc.device_model.build --kind thread
reports=$(mktemp -d)
set -f  # the cases' names have brackets
# shellcheck disable=SC2086,SC2046  # words
HYBATCH_DEVICE_MODEL=thread LD_PRELOAD="$(preloaded libtsan.so)" \
    TSAN_OPTIONS="history_size=4 exitcode=0 log_path=$reports/report" \
    $python -m pytest -q -p no:cacheprovider -m device_model \
    $($python -c "from tests.csrc.device_model.test_model import FEW_CASES; print(*FEW_CASES)")
set +f
if grep -l "device_model-thread" "$reports"/report* 2>/dev/null; then  # races of other libraries are not looked for
    echo "data races: see $reports"
    exit 1
fi
