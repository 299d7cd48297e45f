"""``mpitasks top``: a live view of a run."""
