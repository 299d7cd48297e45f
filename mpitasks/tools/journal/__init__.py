"""``mpitasks journal``: what is in a journal, and taking it out. Needs no MPI."""
