"""Every other rank: receive, run, reply."""
