#!/usr/bin/env bash
# Builds the extension, tests it on the GPU and times it, in under ten minutes, on a machine with nvcc, a CUDA build of
# torch and no internet.
#
#     benchmarks/gpu.sh            results go to benchmarks/results, or to $RESULTS
#
# PYTHON names the interpreter that holds torch, pytest, ninja and pybind11 (default python3); LIMIT_S the seconds after
# which what is still running is stopped (default 570). The exit status is that of the worst step. A kernel that hangs
# costs its own step only.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
results=${RESULTS:-benchmarks/results}
limit=${LIMIT_S:-570}
mkdir -p "$results"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 MPLBACKEND=Agg
worst=0

# step NAME SECONDS COMMAND...: its output goes to NAME.log, the end of it to the terminal.
step() {
    local name=$1 allowed=$2 left=$((limit - SECONDS)) status
    shift 2
    if ((left < 10)); then
        printf '=== %s: no time left\n' "$name"
        worst=1
        return 1
    fi
    timeout -k 5 "$((allowed < left ? allowed : left))" "$@" >"$results/$name.log" 2>&1
    status=$?
    printf '=== %s: status %d, %d s since the start\n' "$name" "$status" "$SECONDS"
    tail -n 15 "$results/$name.log"
    ((status > worst)) && worst=$status
    return "$status"
}

machine() {
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.limit,memory.total --format=csv
    nvcc --version | tail -n 2
    "$python" -c 'import platform, torch; print(platform.python_version(), torch.__version__, torch.cuda.get_device_name())'
    git describe --always --dirty || echo 'no commit: this is a copy without its history'
}

build() {
    FORCE_CUDA=1 "$python" setup.py build_ext --inplace || return 1
    "$python" -c 'from hybatch.ops.backend import why_missing; exit(why_missing("cuda"))' # or all tests would skip
}

bench() {
    local name=$1
    shift
    "$python" benchmarks/bench_ranking.py --json "$results/ranking-$name.json" --device cuda --fast "$@"
}
contrastive() {
    local name=$1
    shift
    "$python" benchmarks/bench_contrastive.py --json "$results/contrastive-$name.json" --device cuda "$@"
}
spills() {
    ! grep -E '[1-9][0-9]* bytes spill' "$results/build.log"
}
export -f machine build bench contrastive spills
export python results

step machine 30 bash -c machine
step build 240 bash -c build || exit "$worst"
step spills 5 bash -c spills
# The kernels that every device runs come first; tensor cores then cannot keep them from being tested.
tests=tests/ops/ranking/test_cuda.py
step test-fp32 90 "$python" -m pytest -v -m gpu -k "not (tf32 or bf16 or fp16)" "$tests"
step test-tensor-cores 90 "$python" -m pytest -v -m gpu -k "tf32 or bf16 or fp16" "$tests"
step test-interface 60 "$python" -m pytest -v -k "on-cuda" tests/ops/ranking/test_counts.py
step test-contrastive 60 "$python" -m pytest -v -m gpu tests/ops/contrastive/test_cuda.py
step test-contrastive-oracle 60 "$python" -m pytest -v -k "on-cuda" tests/ops/contrastive
step test-contrastive-tensor-cores 120 "$python" -m pytest -v -m "gpu and not slow" tests/ops/contrastive/test_hopper.py
step bench-contrastive 60 bash -c 'contrastive bf16 --dtype bf16 --sizes 4096 16384 --rounds 5'
step bench-contrastive-65536 120 bash -c 'contrastive bf16-65536 --dtype bf16 --sizes 65536 --rounds 5'
step bench-xquad-r 100 bash -c 'bench xquad-r --shapes xquad-r --backends cuda'
step bench-mlqa-r 60 bash -c 'bench mlqa-r --shapes mlqa-r --backends cuda'
step bench-2-million 120 bash -c 'bench 2-million --shapes 2-million --widths 1024 --backends cuda --rounds 3'
step bench-contrastive-fp32 60 bash -c 'contrastive fp32 --sizes 4096 16384 --rounds 5'
if command -v compute-sanitizer >/dev/null; then
    step memcheck 60 compute-sanitizer --error-exitcode 9 "$python" -m pytest -m gpu -k "blocks_and_repetition" "$tests"
fi
step bench-contrastive-million 120 bash -c \
    'contrastive million --dtype bf16 --sizes 1048576 --what "forward + backward" --rounds 1 --only "hybatch cuda"'
exit "$worst"
