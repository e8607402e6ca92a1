# Sourced by batch scripts: where the processes of this job find each other, from SLURM's own variables.

find_rendezvous() {
    local first address
    first=$(scontrol show hostnames "${SLURM_JOB_NODELIST:-}" | head -n 1)
    # The address that SLURM itself uses for the node; its name need not resolve on the other nodes.
    address=$(scontrol show node "$first" --oneliner | grep -o 'NodeAddr=[^ ]*')
    MASTER_ADDR=${address#NodeAddr=}
    # Below the ports that systems give away by themselves, and another one after each requeue and for each job, since
    # several jobs may share a node.
    MASTER_PORT=$((20000 + (7 * SLURM_JOB_ID + ${SLURM_RESTART_COUNT:-0}) % 12000))
    export MASTER_ADDR MASTER_PORT
}

if ! find_rendezvous; then
    echo "error: no rendezvous: SLURM_JOB_NODELIST is '${SLURM_JOB_NODELIST:-}' and scontrol does not know its first node" >&2
    exit 2
fi
