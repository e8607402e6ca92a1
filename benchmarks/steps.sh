# Timed steps whose output comes back as one archive whatever fails; sourced by gpu.sh and gpu_training.sh.
#
#     begin NAME                    the archive is $OUT/NAME.tar.gz (OUT: a folder, default build/gpu)
#     step NAME SECONDS COMMAND...  runs the command, at most so long; its output goes to NAME.log
#     finish                        tells what happened and exits with the worst step's status
#
# Steps write what shall come back into $results, and what shall not into $scratch. LIMIT_S is the time of all steps
# together (default 285 s); `reserve` seconds of it are left to the steps that come after. STEPS names those to run, if
# not all; PATIENCE multiplies every step's time, for slow machines. A step that fails, hangs or is killed costs itself only. The archive is made anew after every step, and when
# this script is told to end: whoever kills it without a word has all finished steps.

limit=${LIMIT_S:-285}
out=${OUT:-build/gpu}
python=${PYTHON:-python3}
reserve=0
worst=0
running=
largest_log=$((2 << 20))

begin() {
    call=$1
    mkdir -p "$out" || exit 2
    out=$(cd "$out" && pwd)
    scratch=$(mktemp -d) || exit 2
    results=$scratch/archive/$call
    mkdir -p "$results"
    export scratch results python
    trap 'rm -rf "$scratch"' EXIT
    trap 'stopped INT' INT
    trap 'stopped TERM' TERM
    trap 'stopped HUP' HUP
}

# A half-written archive never stands under the archive's name.
pack() {
    tar -czf "$out/.$call.partial" -C "$scratch/archive" "$call" && mv "$out/.$call.partial" "$out/$call.tar.gz"
}

stopped() {
    trap '' INT TERM HUP
    note "stopped by SIG$1" - "$SECONDS"
    pack # before anything that takes time: what comes next may be a kill
    if [ -n "$running" ]; then
        kill -TERM "$running"
        wait "$running"
        pack
    fi
    exit 143
}

note() {
    printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$results/steps.tsv"
}

step() {
    local name=$1 allowed=$(($2 * ${PATIENCE:-1})) left=$((limit - reserve - SECONDS)) started=$SECONDS status
    shift 2
    [[ -n ${STEPS:-} && " $STEPS " != *" $name "* ]] && return 0
    if ((left < 5)); then
        printf '=== %s: no time left\n' "$name"
        note "$name" "no time left" 0
        ((worst < 1)) && worst=1
        pack
        return 1
    fi
    # In the background, so that a signal is heard at once and not after the step.
    timeout -k 5 "$((allowed < left ? allowed : left))" "$@" >"$results/$name.log" 2>&1 &
    running=$!
    wait "$running"
    status=$?
    running=
    shorten "$results/$name.log"
    printf '=== %s: status %d, %d s of %d\n' "$name" "$status" "$((SECONDS - started))" "$allowed"
    tail -n "${TAIL:-12}" "$results/$name.log"
    note "$name" "$status" "$((SECONDS - started))"
    ((status > worst)) && worst=$status
    pack
    return "$status"
}

# Keep the end of a log that would fill the archive.
shorten() {
    if (($(wc -c <"$1") > largest_log)); then
        tail -c "$largest_log" "$1" >"$1.end" && mv "$1.end" "$1"
    fi
}

finish() {
    printf '=== %d s; steps, their status and seconds:\n' "$SECONDS"
    cat "$results/steps.tsv"
    pack
    printf '=== %s (%d bytes)\n' "$out/$call.tar.gz" "$(wc -c <"$out/$call.tar.gz")"
    exit "$worst"
}

machine() {
    date -u +%F
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.limit,memory.total --format=csv
    nvcc --version | tail -n 2
    "$python" -c 'import platform, torch; print(platform.python_version(), torch.__version__, torch.version.cuda)'
    git describe --always --dirty 2>/dev/null || echo 'no commit: this is a copy without its history'
    find csrc hybatch -type f -not -name '*.pyc' -not -name '*.so' | LC_ALL=C sort | xargs sha256sum | sha256sum
    sha256sum hybatch/*.so
    free -g
}
export -f machine
