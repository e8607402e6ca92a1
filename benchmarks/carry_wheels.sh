#!/usr/bin/env bash
# Fetches Python packages that a machine without internet may lack, for gpu_training.sh to install there.
#
#     benchmarks/carry_wheels.sh [FOLDER]      default build/wheels, which git ignores
#
# For TARGET_PYTHON (default 3.12) on x86-64 Linux. PACKAGES names others than what training needs beside torch,
# transformers, accelerate and the scientific packages; none of their own requirements is fetched. DeepSpeed publishes no
# wheel: it is built here, without its compiled ops, by PYTHON (default python3), which must have torch and wheel.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/wheels}
python=${PYTHON:-python3}
target=${TARGET_PYTHON:-3.12}
packages=${PACKAGES:-jsonargparse docstring-parser typeshed-client importlib-resources
    pydantic pydantic-core annotated-types typing-inspection typing-extensions} # the second line is DeepSpeed's
mkdir -p "$folder"
rm -f "$folder"/*.whl

platforms=()
for glibc in 2_39 2_35 2_34 2_31 2_28 2_27 2_24 2_17 2_12 2_5; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)
fetch() {
    "$python" -m pip download -q --no-deps --only-binary=:all: --implementation cp --python-version "$target" \
        "${platforms[@]}" -d "$folder" "$@"
}
fetch $packages
# Published as sources alone; both are pure Python, for any interpreter.
for name in ${SOURCES-hjson deepspeed}; do
    DS_BUILD_OPS=0 "$python" -m pip wheel -q --no-deps --no-build-isolation -w "$folder" "$name"
done
du -sh "$folder"
ls "$folder"
