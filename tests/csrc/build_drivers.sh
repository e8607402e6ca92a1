#!/bin/sh
# Builds the CPU kernels without torch or Python, and a driver for each op. The compiler is $CXX or g++, and the
# instruction sets are those of the machine that it compiles for.
# Usage: build_drivers.sh FOLDER OPS FLAG...; makes FOLDER/OP_driver for each of OPS, which is one word.
set -eu
folder=$1
ops=$2
shift 2
root=$(cd "$(dirname "$0")/../.." && pwd)
machine=$(${CXX:-g++} -dumpmachine)
flags="-std=c++20 -ffp-contract=off -fno-math-errno -Wall -Wextra -I$root/csrc $*"

for part in common $ops; do
    mkdir -p "$folder/$part"
    for source in $(find "$root/csrc/$part/cpu" -name '*.cpp'); do
        extra=""
        case $machine:$(basename "$source") in
            x86_64*:avx2.cpp) extra="-mavx2 -mfma -mpopcnt" ;;
            x86_64*:avx512.cpp) extra="-mavx512f -mavx2 -mfma -mpopcnt" ;;
            x86_64*:avx512vnni.cpp) extra="-mavx512f -mavx512vnni" ;;
            x86_64*:avx512vpopcntdq.cpp) extra="-mavx512f -mavx512vpopcntdq" ;;
            aarch64*:neon.cpp | arm64*:neon.cpp) ;;
            *:avx*.cpp | *:neon.cpp) continue ;;
        esac
        # shellcheck disable=SC2086  # the flags are words
        ${CXX:-g++} $flags $extra -c "$source" -o "$folder/$part/$(echo "${source#"$root/csrc/$part/cpu/"}" | tr / -).o"
    done
done
for op in $ops; do
    # shellcheck disable=SC2086
    ${CXX:-g++} $flags "$root/tests/csrc/${op}_driver.cpp" "$folder/common"/*.o "$folder/$op"/*.o -pthread \
        -o "$folder/${op}_driver"
done
