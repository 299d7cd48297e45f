"""A rank's child processes, in which isolated tasks run."""
