#!/bin/bash
# Written by: slurm/generate.py; edit it, then: sbatch mpich-srun.sh
#SBATCH --job-name=mpich-srun
#SBATCH --output=mpich-srun-%j.out
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --time=1:00:00

# What the job needs, before it can find python and the MPI: edit this.
# module load mpich
# source ~/venv/bin/activate

# As many threads as each rank has cores, unless you have set another number.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-$OMP_NUM_THREADS}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}

# Output comes line by line, so that the log can be followed.
export PYTHONUNBUFFERED=1

# No task is started that cannot end in time: SLURM tells the end, or rank 0
# asks for it. One that is over is of another job, which has left it here.
export SLURM_JOB_END_TIME
[ "$SLURM_JOB_END_TIME" -gt "$(date +%s)" ] 2>/dev/null ||
    unset SLURM_JOB_END_TIME

# MPICH names shared memory after the step, and killed ranks leave it behind:
# when SLURM starts the job again, it takes a step of another number.
for _ in $(seq "${SLURM_RESTART_COUNT:-0}"); do srun -N1 -n1 true; done

# MPICH knows PMI-2 (others: srun --mpi=list). If one rank fails, all end.
exec srun --mpi=pmi2 --kill-on-bad-exit=1 \
    python -m mpitasks \
    --status "mpich-srun-$SLURM_JOB_ID.status" \
    script.py
