# What gpu.sh times; sourced by it. Each line: name, seconds at most, script and its options.

short_benchmark() {
    bench contrastive-short 30 bench_contrastive.py --dtype bf16 --sizes 8192 --rounds 3 --only "hybatch cuda"
}

# The stated goals first (docs/performance.md), so that what is cut off is the rest.
benchmarks() {
    bench ranking-xquad-r 70 bench_ranking.py --fast --shapes xquad-r --widths 768 --backends cuda --rounds 7 --kernels
    bench contrastive-65536 60 bench_contrastive.py --dtype bf16 --sizes 65536 --rounds 3
    bench ranking-2-million 110 bench_ranking.py --fast --shapes 2-million --widths 1024 --backends cuda --rounds 2
    bench contrastive-million 70 bench_contrastive.py --dtype bf16 --sizes 1048576 --what "forward + backward" \
        --rounds 1 --only "hybatch cuda"
    step test-million 60 "$python" -m pytest -v -m "gpu and slow" tests/ops/contrastive
    bench contrastive-fp32 40 bench_contrastive.py --sizes 512 4096 16384 --rounds 3 --kernels
    bench contrastive-bf16 40 bench_contrastive.py --dtype bf16 --sizes 512 4096 16384 --rounds 5
    bench ranking-mlqa-r 40 bench_ranking.py --fast --shapes mlqa-r --widths 768 --backends cuda --rounds 7
    bench ranking-widths 60 bench_ranking.py --fast --shapes xquad-r --widths 384 1024 --backends cuda --rounds 5
}
