"""What users call on rank 0: Executor, maps, waiting; and which run they belong to."""
