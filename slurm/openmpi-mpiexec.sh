#!/bin/bash
# Written by: slurm/generate.py; edit it, then: sbatch openmpi-mpiexec.sh
#SBATCH --job-name=openmpi-mpiexec
#SBATCH --output=openmpi-mpiexec-%j.out
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

# Open MPI 5 knows PMIx only; its own mpiexec knows SLURM's nodes and ranks.
exec mpiexec \
    python -m mpitasks \
    --status "openmpi-mpiexec-$SLURM_JOB_ID.status" \
    script.py
