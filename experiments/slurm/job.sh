# What the jobs of this folder share: their environment, and a step that is queued again at the time limit. It is sourced.

export HF_HUB_OFFLINE=1  # compute nodes have no internet: weights come from LIGHTNING_SEG_WEIGHTS or the hub cache
export HF_HOME=${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}  # stays where the weights are
# caches of data, compilers and plots: on the node's own disk
export TMPDIR=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}
export XDG_CACHE_HOME=$TMPDIR/cache_$(id -u)
scratch=$TMPDIR/lightning_seg_${SLURM_JOB_ID}
export TORCHINDUCTOR_CACHE_DIR=$scratch/inductor TRITON_CACHE_DIR=$scratch/triton MPLCONFIGDIR=$scratch/matplotlib
mkdir -p "$scratch"

# a task of an array: its last one has the number of the whole array for its own, which would name all of them
this_job=$SLURM_JOB_ID
if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then this_job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi

# in_step COMMAND...: on all tasks by srun. One that fails ends all, unless ends_all is 0. Slurm's warning before the
# time limit ends them after their batch, and the job is queued again.
ends_all=1
in_step() {
  local code=0 late=""
  # not inherited from the job since Slurm 22.05
  srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=$ends_all "$@" &
  local step=$!
  trap 'late=yes; scancel --signal=TERM "$this_job"' USR1
  wait "$step" || code=$?
  while kill -0 "$step" 2> /dev/null; do  # the signal has ended the waiting, not the step
    code=0
    wait "$step" || code=$?
  done
  rm -rf "$scratch"
  if [ -n "$late" ] && [ "$code" != 0 ]; then
    scontrol requeue "$this_job"
  fi
  return "$code"
}
