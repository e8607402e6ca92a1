#!/bin/sh
# Builds the CPU kernels with AddressSanitizer and UndefinedBehaviorSanitizer, and once more with ThreadSanitizer, and
# runs the drivers under both. Usage: run_sanitized.sh FOLDER-FOR-THE-BINARIES; the compiler is $CXX or g++.
set -eu
folder=$1
here=$(cd "$(dirname "$0")" && pwd)

build_and_run() {
    name=$1
    shift
    "$here/build_drivers.sh" "$folder/$name" "ranking contrastive" -O1 -g1 -fno-omit-frame-pointer "$@"
    "$folder/$name/ranking_driver"
    "$folder/$name/contrastive_driver"
}

export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
build_and_run address -fsanitize=address,undefined -fno-sanitize-recover=all
build_and_run thread -fsanitize=thread
