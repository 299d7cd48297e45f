"""``python -m mpitasks.futures script.py``: as ``python -m mpitasks script.py``.

So in a command that starts ``python -m mpi4py.futures`` one word changes, too. The
command line itself is `mpitasks.launch.cli`'s.
"""

from mpitasks.__main__ import main

if __name__ == "__main__":
    main()
