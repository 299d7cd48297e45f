"""What other libraries need to run their calls on the workers. One file for each.

Each imports its library, which is no dependency of mpitasks.
"""
