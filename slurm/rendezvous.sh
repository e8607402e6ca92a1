# Sourced by batch scripts: where the processes of this job find each other, from SLURM's own variables.

find_rendezvous() {
    local names first address
    names=$(scontrol show hostnames "${SLURM_JOB_NODELIST:-}") || return 1
    first=${names%%$'\n'*}
    # The address that SLURM itself uses for the node; its name need not resolve on the other nodes.
    address=$(scontrol show node "$first" --oneliner | grep -o ' NodeAddr=[^ ]*') || return 1
    MASTER_ADDR=${address#*=}
    # Below the ports that systems give away by themselves, and another one after each requeue and for each job, since
    # several jobs may share a node.
    MASTER_PORT=$((20000 + (7 * ${SLURM_JOB_ID:-0} + ${SLURM_RESTART_COUNT:-0}) % 12000))
    export MASTER_ADDR MASTER_PORT
}

if ! find_rendezvous; then
    echo "error: no rendezvous: scontrol does not know the first node of SLURM_JOB_NODELIST '${SLURM_JOB_NODELIST:-}';" \
        "submit this script with sbatch" >&2
    exit 2
fi
