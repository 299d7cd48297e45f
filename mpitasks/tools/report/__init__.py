"""``mpitasks report TRACE``: a page about a run, from its trace."""
