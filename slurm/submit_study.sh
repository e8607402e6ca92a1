#!/usr/bin/env bash
# Submit a whole study from the root of a checkout: the sweep, the evaluations after it, the report after those.
#   RUNS=runs/study RESULTS=results/study slurm/submit_study.sh GRID "TASK [TASK ...]" --config RECIPE [...]
# SBATCH_OPTIONS="--partition=gpu --account=project" goes to each sbatch. Prints the three job ids.
set -euo pipefail
grid=${1:?name the grid, see the top of slurm/submit_study.sh}
read -ra tasks <<<"${2:?name the tasks, see the top of slurm/submit_study.sh}"
read -ra options <<<"${SBATCH_OPTIONS:-}"
count=$(python study/grid.py count "$grid")
# afterany: a run that failed leaves the others their evaluation, and the report names what is missing.
sweep=$(sbatch --parsable "${options[@]}" --array="1-$count" slurm/sweep_array.sbatch "$grid" "${@:3}")
evaluation=$(sbatch --parsable "${options[@]}" --array="1-$((count * ${#tasks[@]}))" --dependency="afterany:$sweep" \
    slurm/evaluate_array.sbatch "$grid" "${tasks[@]}")
report=$(sbatch --parsable "${options[@]}" --dependency="afterany:$evaluation" slurm/report.sbatch "$grid" "${tasks[@]}")
echo "$sweep $evaluation $report"
