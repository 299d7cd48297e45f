"""Rank 0: the pump that drives the scheduler, and the interfaces users call."""
