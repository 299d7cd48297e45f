"""What `mpitasks top` shows of a status: pure, a status and a time in, a picture out.

Texts come from a file that anybody may have written, so they pass `printable`, and
rich's markup is never applied to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mpitasks.observe import status as statuses
from mpitasks.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mpitasks.observe.status import Status

__all__ = ["picture"]

STYLES = {"failed": "bold red", "stopped": "yellow", "finished": "green"}
NARROW = 60


def picture(
    status: Status, now: float, *, width: int, height: int | None, head: str = ""
) -> RenderableType:
    """Return the picture.

    Args:
        status: How far the run is.
        now: The time, in seconds since 1970.
        width: Columns of the terminal.
        height: Its rows; None if there is no bound.
        head: A line about the job; none if empty.
    """
    lines = [printable(line) for line in statuses.describe(status, now)]
    style = STYLES.get(status.state, "")
    if statuses.is_stale(status, now):
        style = "bold red"
    top: list[RenderableType] = [Text(printable(head))] if head else []
    top += [Text(lines[0], style=style or "bold")]
    done = status.done + status.failed
    total = done + status.running + status.waiting
    bar = Table.grid()  # which ends its line, as a bar alone does not
    bar.add_row(ProgressBar(total=max(total, 1), completed=done, width=width - 2))
    top += [bar]
    top += [Text(line) for line in lines[1:]]
    if status.kept:
        kept = [f"{_bytes(nbytes)} on {host}" for host, nbytes in sorted(status.kept)]
        top += [Text(printable("kept results: " + ", ".join(kept)))]
    if status.over or statuses.is_stale(status, now):
        return Group(*top)
    return Group(*top, Text(), _workers(status, width, height, len(top) + 4))


def _workers(
    status: Status, width: int, height: int | None, above: int
) -> RenderableType:
    """Return what workers hold: those first that have held their task longest."""
    rows = sorted(status.held, key=lambda row: (-row[4], row[0]))
    room = len(rows) if height is None else max(height - above - 1, 1)
    table = Table(box=None, pad_edge=False, width=width)
    table.add_column("rank", justify="right")
    if width >= NARROW:
        table.add_column("host", overflow="ellipsis", no_wrap=True)
    table.add_column("task", ratio=1, overflow="ellipsis", no_wrap=True)
    if width >= NARROW:
        table.add_column("held", justify="right")
    table.add_column("for", justify="right")
    for rank, host, name, tasks, seconds in rows[:room]:
        cells: list[RenderableType] = [
            str(rank),
            Text(printable(name)),
            f"{seconds:.0f} s",
        ]
        if width >= NARROW:
            cells.insert(1, Text(printable(host)))
            cells.insert(3, str(tasks))
        table.add_row(*cells)
    of = f"{len(rows)} of {max(status.workers, len(rows))} workers hold tasks"
    shown = f", {room} are shown" if len(rows) > room else ""
    return Group(table, Text(of + shown))


def _bytes(nbytes: int) -> str:
    """Return a size for a human."""
    if nbytes < 1 << 20:
        return f"{nbytes / 1024:.0f} KiB"
    if nbytes < 1 << 30:
        return f"{nbytes / (1 << 20):.0f} MiB"
    return f"{nbytes / (1 << 30):.1f} GiB"
