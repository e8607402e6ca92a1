#!/bin/sh
# Builds the CPU kernels with AddressSanitizer and UndefinedBehaviorSanitizer, and once more with ThreadSanitizer, and
# runs the drivers under both. Usage: run_sanitized.sh FOLDER-FOR-THE-BINARIES; the compiler is $CXX or g++.
set -eu
folder=$1
root=$(cd "$(dirname "$0")/../.." && pwd)

build_and_run() {
    name=$1
    shift
    flags="-std=c++20 -O1 -g -fno-omit-frame-pointer -ffp-contract=off -fno-math-errno -Wall -Wextra -I$root/csrc $*"
    for part in common ranking contrastive; do
        mkdir -p "$folder/$name/$part"
        for source in "$root/csrc/$part"/cpu/*.cpp; do
            case $(uname -m):$(basename "$source") in
                x86_64:avx2.cpp) extra="-mavx2 -mfma -mpopcnt" ;;
                x86_64:avx512.cpp) extra="-mavx512f -mavx2 -mfma -mpopcnt" ;;
                *:avx*.cpp) continue ;;
                *) extra="" ;;
            esac
            # shellcheck disable=SC2086  # the flags are words
            ${CXX:-g++} $flags $extra -c "$source" -o "$folder/$name/$part/$(basename "$source").o"
        done
    done
    for part in ranking contrastive; do
        # shellcheck disable=SC2086
        ${CXX:-g++} $flags "$root/tests/csrc/${part}_driver.cpp" "$folder/$name/common"/*.o "$folder/$name/$part"/*.o \
            -pthread -o "$folder/$name/${part}_driver"
        "$folder/$name/${part}_driver"
    done
}

export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
build_and_run address -fsanitize=address,undefined -fno-sanitize-recover=all
build_and_run thread -fsanitize=thread
