#!/usr/bin/env bash
# Makes hybatch/_cpu.so and hybatch/_cuda.so ready: those that are there, if they load, else new ones from csrc.
#
# PYTHON names the interpreter (default python3). REBUILD=1 builds in any case. The build needs nvcc, ninja and pybind11;
# it reads no pyproject.toml, so that any setuptools will do, and without Python.h it leaves out `_build_info`, which
# nothing but `hybatch env` and a few tests of the CPU kernels needs.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD

loads() {
    "$python" - <<'P'
from hybatch.ops.backend import FAMILIES, why_missing

reasons = {why_missing(backend, family) for backend in ("cpu", "cuda") for family in FAMILIES} - {None}
print(*reasons, sep="\n")
raise SystemExit(bool(reasons))
P
}

build() {
    ln -sfn "$PWD/hybatch" build/gpu-build/hybatch
    rm -f hybatch/_cpu.so hybatch/_cuda.so
    (cd build/gpu-build && FORCE_CUDA=1 "$python" ../../setup.py build_ext --inplace) && return
    echo '--- the libraries that need no Python, alone:'
    local ninja folder libraries
    ninja=$(command -v ninja || "$python" -c 'import ninja; print(ninja.BIN_DIR + "/ninja")')
    folder=$(echo build/gpu-build/build/temp.*)
    libraries=$(sed -nE 's|^build (.*/hybatch/_c[a-z]*\.so):.*|\1|p' "$folder/build.ninja")
    "$ninja" -k 0 -C "$folder" $libraries
    cp $libraries hybatch/
}

if [ "${REBUILD:-0}" = 0 ]; then
    echo '--- carried libraries:'
    loads && exit 0
fi
if command -v nvcc >/dev/null || [ -n "${CUDA_HOME:-}${CUDACXX:-}" ]; then
    mkdir -p build/gpu-build
    build | tee build/gpu-build.log
    if grep -E '[1-9][0-9]* bytes spill' build/gpu-build.log; then
        echo 'a kernel spills registers'
    fi
else
    echo 'no nvcc to build with'
fi
loads
