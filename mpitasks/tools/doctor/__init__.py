"""``mpitasks doctor``: looks whether a run would start here, and says why not."""
