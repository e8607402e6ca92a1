# Sourced by batch scripts: run_step COMMAND... runs the job's work and ends the job by what became of it.
#
#   exit code of COMMAND                   then
#   0                                      the job ends well
#   138, 143 (USR1, TERM: checkpointed)    the job goes back into the queue
#   75, other 128 + n (died or hung)       the job goes back, as long as it was restarted fewer than MAX_RESTARTS times
#   others (2: bad input)                  the job fails with that code

MAX_RESTARTS=${MAX_RESTARTS:-10}
step=
told=

# SLURM warns this script alone (--signal=B:USR1@120). srun hands USR1 on to every process of the step; at TERM it would
# end them by SIGKILL.
pass_on() {
    told=yes
    interrupted=yes
    if [ -n "$step" ]; then kill -s USR1 "$step" 2>/dev/null || true; fi
}
trap pass_on USR1 TERM

run_step() {
    local code=0
    "$@" &
    step=$!
    if [ -n "$told" ]; then kill -s USR1 "$step" 2>/dev/null || true; fi
    interrupted=yes
    # A trapped signal ends `wait` with a code of its own; bash still has the step's when asked again.
    while [ -n "$interrupted" ]; do
        interrupted=
        wait "$step" && code=0 || code=$?
    done
    step=
    end_job "$code"
}

end_job() {
    local code=$1 restarts=${SLURM_RESTART_COUNT:-0}
    case $code in
        138 | 143) requeue "stopped with a checkpoint (exit code $code)" ;;
        75 | 1[3-9][0-9] | 129)
            if [ "$restarts" -lt "$MAX_RESTARTS" ]; then
                requeue "a process died or hung (exit code $code), restart $((restarts + 1)) of at most $MAX_RESTARTS"
            else
                echo "not requeued: a process died or hung (exit code $code) after $restarts restarts" >&2
            fi
            ;;
    esac
    exit "$code"
}

requeue() {
    local job
    job=$(scontrol show job "$SLURM_JOB_ID" --oneliner)
    # A job that was cancelled, has timed out or is requeued by SLURM itself runs no more: leave it as it is.
    if [[ $job == *JobState=RUNNING* ]]; then
        echo "requeued: $1"
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "not requeued, because SLURM is ending this job: $1"
    fi
}
