"""The scheduler: events in, actions out. No clock, thread, file, socket, MPI or pickle."""
