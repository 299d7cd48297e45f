"""Verbs of the command line that look at a machine, a run or a journal."""
