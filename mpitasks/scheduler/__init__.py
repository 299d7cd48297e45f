"""The scheduler: events in, actions out. No clock, thread, file, MPI or pickle."""
