"""``mpitasks bench``: measures on the user's own machine, and reports it for others."""
