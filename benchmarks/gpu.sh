#!/usr/bin/env bash
# Tests and times the CUDA kernels, on a machine with a GPU, a CUDA build of torch and no internet, in two calls of at
# most five minutes each:
#
#     benchmarks/gpu.sh test     every CUDA test in the order of the groups of gpu_tests.py, the failed ones again with
#                                CUDA_LAUNCH_BLOCKING=1 and in compute-sanitizer, one short benchmark
#     benchmarks/gpu.sh bench    the benchmarks of gpu_benchmarks.sh
#
# All that they write comes back as one archive, $OUT/gpu-test.tar.gz or $OUT/gpu-bench.tar.gz, whatever fails (see
# steps.sh, also for LIMIT_S). Libraries that were carried along (hybatch/_cpu.so, hybatch/_cuda.so) are used where they
# load, else built. The exit status is that of the worst step.
#
# PYTHON names the interpreter with torch and pytest (default python3). A rehearsal without a GPU gives TESTS (folders of
# tests, default tests/ops and tests/models/unpadded), BENCHMARKS (default benchmarks/gpu_benchmarks.sh), LIBRARIES (what
# makes the libraries ready, default benchmarks/load_or_build.sh) and DEVICE (default cuda).
set -uo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
test | bench) ;;
*)
    echo "usage: benchmarks/gpu.sh test|bench" >&2
    exit 2
    ;;
esac
source benchmarks/steps.sh
export PYTHONPATH=$PWD:$PWD/benchmarks PYTHONUNBUFFERED=1 MPLBACKEND=Agg
device=${DEVICE:-cuda}

# bench NAME SECONDS SCRIPT OPTIONS...: the script writes NAME.json anew with every round.
bench() {
    step "bench-$1" "$2" "$python" "benchmarks/$3" --json "$results/$1.json" --device "$device" "${@:4}"
}

begin "gpu-$1"
step machine 30 bash -c machine
step needs 30 "$python" benchmarks/gpu_needs.py
if step libraries 150 "${LIBRARIES:-benchmarks/load_or_build.sh}"; then
    groups=$("$python" benchmarks/gpu_tests.py groups)
else
    groups=$("$python" benchmarks/gpu_tests.py groups --without-kernels)
fi
if [ "$1" = bench ]; then
    source "${BENCHMARKS:-benchmarks/gpu_benchmarks.sh}"
    benchmarks
    finish
fi

reserve=60 # for what failed, once more, and the benchmark
step collect 60 "$python" benchmarks/gpu_tests.py collect --tests ${TESTS:-tests/ops tests/models/unpadded} \
    --folder "$results"
while read -r group seconds; do
    step "test-$group" "$seconds" "$python" benchmarks/gpu_tests.py run "$group" --folder "$results"
done <<<"$groups"
reserve=25
step again 80 "$python" benchmarks/gpu_tests.py again --folder "$results"
reserve=0
source "${BENCHMARKS:-benchmarks/gpu_benchmarks.sh}"
short_benchmark
TAIL=60 step summary 20 "$python" benchmarks/gpu_tests.py summary --folder "$results"
finish
