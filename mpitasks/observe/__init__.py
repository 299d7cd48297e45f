"""Read-only listeners: what they see of a run changes nothing in it."""
