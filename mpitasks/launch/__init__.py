"""Before and around MPI: command line, environment, start and end of a run."""
