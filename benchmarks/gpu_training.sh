#!/usr/bin/env bash
# Trains and evaluates on a GPU, in one call of at most five minutes, an encoder of multilingual-e5-small's architecture
# (gpu_training.yaml): the first step in fp32 against the CPU's; runs in bf16, plain and cached, under DDP and ZeRO-2;
# a killed run that goes on bit for bit; `hybatch evaluate` with the counts of both devices; speed, share of the matrix
# rate and memory beside `hybatch plan`.
#
#     benchmarks/gpu_training.sh
#     BACKBONE=DIR_OR_TAR benchmarks/gpu_training.sh
#
# The encoder has random weights, unless BACKBONE names one with weights: its folder, or a tar archive of that, compressed
# or not. Of multilingual-e5-small (study/pretrained.py) cut_vocabulary.py leaves what the data use, and tar and xz make
# 46 MB of it:
#
#     python benchmarks/cut_vocabulary.py --model backbones/multilingual-e5-small --output build/e5-small-cut \
#         --corpora "$HYBATCH_DATA_DIR/train/mlqa-test" --tasks xquad-r
#     tar -C build -cJf build/e5-small-cut.tar.xz e5-small-cut
#
# What it writes comes back as one archive, $OUT/gpu-training.tar.gz, whatever fails (see steps.sh, also for LIMIT_S).
# The data are those of HYBATCH_DATA_DIR where it is set, else the corpus that comes with hybatch. Wheels in $WHEELS
# (default build/wheels, made by carry_wheels.sh) are used before what is installed. PYTHON names the interpreter.
#
# A rehearsal without a GPU gives DEVICE (default cuda), LIBRARIES (see gpu.sh), ACCELERATE (accelerate's configuration of
# ZeRO-2), OPTIONS (more options of the recipe), MODEL_OPTIONS (of its encoder), CHUNK_SIZE (default 64),
# FIRST_STEP_EXAMPLES (default 64) and ENCODING (options of bench_encoding.py, which runs where xquad-r is there).
set -uo pipefail
cd "$(dirname "$0")/.."
source benchmarks/steps.sh
if [ -n "${BACKBONE:-}" ] && [ ! -e "$BACKBONE" ]; then
    echo "BACKBONE $BACKBONE: there is no such folder or archive, seen from $PWD" >&2
    exit 2
fi
[ "${1:-}" = part ] || begin gpu-training
export PYTHONPATH=$scratch/site:$PWD PYTHONUNBUFFERED=1 MPLBACKEND=Agg TOKENIZERS_PARALLELISM=true HF_HUB_OFFLINE=1
export TQDM_MININTERVAL=20 # one line of progress, not a log full of them
export HYBATCH_CACHE_DIR=$scratch/cache
device=${DEVICE:-cuda}
zero2=${ACCELERATE:-configs/accelerate/zero2.yaml}

corpus=embedded task=embedded
if [ -n "${HYBATCH_DATA_DIR:-}" ] && [ -d "$HYBATCH_DATA_DIR/train/mlqa-test" ]; then
    corpus=$HYBATCH_DATA_DIR/train/mlqa-test
    [ -d "$HYBATCH_DATA_DIR/xquad-r" ] && task=xquad-r
fi
recipe=(--config benchmarks/gpu_training.yaml --corpora "[{path: $corpus}]" ${OPTIONS:-})
if [ -n "${BACKBONE:-}" ]; then
    backbone=$scratch/backbone
    [ -d "$BACKBONE" ] && backbone=$BACKBONE
    recipe+=(--model.fresh null --model.backbone "$backbone")
fi
runs=("${recipe[@]}" --model.fresh null --model.backbone "$scratch/initial")
cached=(--training.chunk_size "${CHUNK_SIZE:-64}")

ddp=(-m torch.distributed.run --standalone --nproc-per-node 1)
deepspeed=(-m accelerate.commands.launch --config_file "$zero2" --num_processes 1)
resumed=(--training.steps 24 --training.warmup_steps 4 --training.checkpoint_every_steps 4 --training.resume auto)

carried_wheels() {
    local wheels
    wheels=$(find "${WHEELS:-build/wheels}" -name '*.whl' 2>/dev/null)
    [ -z "$wheels" ] && echo 'no wheels were carried' && return
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$scratch/site" $wheels
}
needs() {
    "$python" - <<'P'
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
import re, sys, tomllib

missing = []
for line in tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]["dependencies"] + ["deepspeed"]:
    name = re.split(r"[\[<>=]", line, maxsplit=1)[0]
    try:
        print(name, version(name))
    except PackageNotFoundError:
        print(name, "MISSING: carry it (benchmarks/carry_wheels.sh)")
        missing.append(name)
# The hub's data sets, trackers and published vocabularies are not asked for here.
sys.exit(bool(set(missing) - {"datasets", "tensorboard", "sentencepiece", "protobuf", "deepspeed"}))
P
}
# weights: unpack BACKBONE where it is an archive, and look at what it holds.
weights() {
    if [ ! -d "$BACKBONE" ]; then
        mkdir -p "$backbone" && tar -xf "$BACKBONE" -C "$backbone" --strip-components 1 || return
    fi
    sha256sum "$backbone"/*.safetensors "$backbone"/*.json
}
# watched NAME LAUNCHER... -- OPTIONS...: one training in $scratch/NAME.
watched() {
    local name=$1 launcher=()
    shift
    while [ "$1" != -- ]; do launcher+=("$1") && shift; done
    shift
    "$python" "${launcher[@]}" benchmarks/train_and_watch.py --peak "$results/$name-peak.json" "$@" \
        --output_dir "$scratch/$name" || return
    cp "$scratch/$name/metrics.jsonl" "$results/$name-metrics.jsonl"
}
plans() {
    local plan=("$python" -m hybatch plan "${runs[@]}" --output_dir none --gpu-memory 141)
    "${plan[@]}" --json "$results/plain-plan.json" &
    "${plan[@]}" "${cached[@]}" --json "$results/cached-plan.json" && wait $!
}
evaluations() {
    "$python" -m hybatch evaluate --model "$scratch/plain/final" --task "$task" --device "$device" \
        --output "$results/evaluation" --save-embeddings "$scratch/embeddings" || return
    count "$device" device &
    count cpu cpu && wait $! &&
        "$python" benchmarks/same_results.py "$results/counts-cpu" "$results/counts-device"
}
# count DEVICE NAME: every rank anew from the embeddings that were kept.
count() {
    HYBATCH_BACKEND=$1 "$python" -m hybatch evaluate --embeddings "$scratch/embeddings" --task "$task" --device "$1" \
        --output "$results/counts-$2"
}
# encoding: beside sentence-transformers and the products alone, on real texts, with what was trained.
encoding() {
    "$python" benchmarks/bench_encoding.py --json "$results/encoding.json" --model "$scratch/plain/final" \
        --device "$device" ${ENCODING:---texts 4096 --rounds 3 --precision float32 bf16}
}
first_step() {
    "$python" benchmarks/first_step.py --initial "$scratch/initial" --json "$results/first-step.json" \
        --device "$device" "${recipe[@]}" --output_dir none --sampling.batch_size "${FIRST_STEP_EXAMPLES:-64}" \
        ${MODEL_OPTIONS:-}
}
stop_and_resume() {
    "$python" benchmarks/stop_and_resume.py --folder "$scratch/resumed" --json "$results/resumed.json" \
        "$python" benchmarks/train_and_watch.py --deterministic "${runs[@]}" "${resumed[@]}"
}
figures() {
    "$python" benchmarks/training_figures.py --json "$results/training.json" --device "$device" \
        --run plain "$scratch/plain" "$results/plain-peak.json" "$results/plain-plan.json" none \
        --run cached "$scratch/cached" "$results/cached-peak.json" "$results/cached-plan.json" none \
        --run zero2 "$scratch/zero2" "$results/zero2-peak.json" "$results/plain-plan.json" zero2
}

# Steps run in a process of their own, which `timeout` can end: this script once more, for one of its parts.
if [ "${1:-}" = part ]; then
    "${@:2}"
    exit
fi
part() {
    step "$1" "$2" bash benchmarks/gpu_training.sh part "${@:3}"
}

step machine 30 bash -c machine
part wheels 30 carried_wheels
part needs 15 needs
[ -n "${BACKBONE:-}" ] && part weights 40 weights
step libraries 120 "${LIBRARIES:-benchmarks/load_or_build.sh}"
reserve=20 # for the figures
part first-step 60 first_step
part plan 30 plans
part train-plain 60 watched plain "${ddp[@]}" -- "${runs[@]}"
part train-cached 60 watched cached "${ddp[@]}" -- "${runs[@]}" "${cached[@]}"
part resume 75 stop_and_resume
part evaluate 60 evaluations
[ "$task" = xquad-r ] && part encoding 60 encoding
if "$python" -c 'import deepspeed' >/dev/null 2>&1; then
    part train-zero2 75 watched zero2 "${deepspeed[@]}" -- "${runs[@]}"
else
    note train-zero2 "no DeepSpeed" 0
fi
reserve=0
TAIL=30 part figures 30 figures
finish
