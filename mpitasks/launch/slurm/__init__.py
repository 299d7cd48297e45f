"""SLURM: writing job scripts, submitting them, and following what comes of them.

Nothing here loads MPI: all of it works on a login node.
"""
