# Functions of the batch scripts. Expects DATA; what a cluster has otherwise is set in the scripts.
# shellcheck shell=bash

REQUEUE=75 # exit code of train.py that was told to stop: everything is saved, run it again

# Run a command once on each node.
on_nodes() {
    srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 "$@"
}

# Copy $DATA, a folder or a .tar, to the local disk of each node, once; the path there in $copy.
stage() {
    copy="${SLURM_TMPDIR:-${TMPDIR:-/tmp}/sfsrnet-$SLURM_JOB_ID}/data"
    # shellcheck disable=SC2016 # expanded on the nodes
    on_nodes bash -euc '
        [ -d "$2" ] && exit # the job was requeued to this node
        rm -rf "$2.part" && mkdir -p "$2.part"
        if [ -d "$1" ]; then cp -rL --preserve=timestamps "$1/." "$2.part"; else tar -xf "$1" -C "$2.part"; fi
        mv "$2.part" "$2"
    ' stage "$DATA" "$copy"
}

# Remove the copies, where they do not lie in a folder that SLURM removes itself.
unstage() {
    [ -n "${copy:-}" ] && [ -z "${SLURM_TMPDIR:-}" ] || return 0
    on_nodes rm -rf "${copy%/data}"
}

# Run a command; tell it to stop when SLURM says so (#SBATCH --signal), then requeue the job.
run() {
    local code=0 told=0
    # SIGUSR1 to all that srun started, not to this script: train.py saves at its next step
    trap 'told=1; scancel --signal=USR1 "$SLURM_JOB_ID"' USR1 TERM
    "$@" &
    local child=$!
    wait "$child" || code=$?
    while kill -0 "$child" 2>/dev/null; do # a signal ended the waiting only
        code=0
        wait "$child" || code=$?
    done
    trap '' USR1 TERM
    # torchrun turns every code of train.py into 1: what counts then is that it was told
    if ((code == REQUEUE || (told && code != 0))); then
        echo "Told to stop: requeued"
        scontrol requeue "$SLURM_JOB_ID"
    else
        unstage || true # the training's code counts
    fi
    exit "$code"
}
