"""Rank 0: the event loop that drives the scheduler, and the interfaces users call."""
