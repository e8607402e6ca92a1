#!/bin/sh
# Builds the CPU kernels with AddressSanitizer and UndefinedBehaviorSanitizer, and once more with ThreadSanitizer, and
# runs the driver under both. Usage: run_sanitized.sh FOLDER-FOR-THE-BINARIES; the compiler is $CXX or g++.
set -eu
folder=$1
root=$(cd "$(dirname "$0")/../.." && pwd)

build_and_run() {
    name=$1
    shift
    flags="-std=c++20 -O1 -g -fno-omit-frame-pointer -ffp-contract=off -fno-math-errno -Wall -Wextra -I$root/csrc $*"
    mkdir -p "$folder/$name"
    for source in "$root"/csrc/ranking/cpu/*.cpp "$root/tests/csrc/ranking_driver.cpp"; do
        case $(uname -m):$(basename "$source") in
            x86_64:avx2.cpp) extra="-mavx2 -mfma -mpopcnt" ;;
            x86_64:avx512.cpp) extra="-mavx512f -mavx2 -mfma -mpopcnt" ;;
            *:avx*.cpp) continue ;;
            *) extra="" ;;
        esac
        # shellcheck disable=SC2086  # the flags are words
        ${CXX:-g++} $flags $extra -c "$source" -o "$folder/$name/$(basename "$source").o"
    done
    # shellcheck disable=SC2086
    ${CXX:-g++} $flags "$folder/$name"/*.o -pthread -o "$folder/$name/driver"
    "$folder/$name/driver"
}

export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
build_and_run address -fsanitize=address,undefined -fno-sanitize-recover=all
build_and_run thread -fsanitize=thread
