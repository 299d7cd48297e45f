"""``python -m mpitasks``, and the installed command ``mpitasks``.

Signals are handled before anything that is slow to import; and before that, Ctrl-C ends
this process without a traceback out of the middle of an import.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from mpitasks.launch import signals
from mpitasks.launch.environment import launch_hint
from mpitasks.launch.exit import know_supervisor


def main() -> None:
    """Run the command line and exit."""
    hint = launch_hint()
    leads = hint is None or hint.rank == 0
    signals.expect(leads=leads)
    know_supervisor(leads=leads)
    from mpitasks.launch import cli

    cli.main()


if __name__ == "__main__":
    main()
