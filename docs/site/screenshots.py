"""Makes the pictures of docs/images from a real run: a report, and `mpitasks top`.

    python docs/site/screenshots.py         # writes docs/images
    python docs/site/screenshots.py FOLDER  # there, and the report in other looks, too

Needs rich, Chromium and mpiexec. A picture of the whole page would be long: it shows
what fits on a screen.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from mpitasks.errors import ConfigurationError
from mpitasks.observe import status as statuses
from mpitasks.tools.top.picture import picture

IMAGES = Path(__file__).parents[1] / "images"
MOST_BYTES = 150_000

SCRIPT = """
import random, time
import numpy as np
import mpitasks as mt

def simulate(seed):
    time.sleep(0.05 + 0.15 * random.Random(seed).random())
    if mt.current_task().attempt == 1 and seed % 23 == 5:
        raise OSError(f"no licence for seed {seed}")
    return np.full(200_000, float(seed))

def combine(one, other):
    time.sleep(0.15)
    return one + other

def fit(total):
    time.sleep(3)
    return float(total.mean())

with mt.Executor(retries=2) as ex:
    keep = ex.with_options(keep=True)
    left = [keep.submit(simulate, seed) for seed in range(160)]
    while len(left) > 1:
        odd = left[len(left) // 2 * 2:]
        pairs = zip(left[::2], left[1::2])
        left = [keep.submit(combine, *pair) for pair in pairs] + odd
    print(ex.submit(fit, left[0]).result())
"""

LOOKS = {
    "report": (1120, 1010, False),
    "report-dark": (1120, 2600, True),
    "report-whole": (1120, 2600, False),
    "report-narrow": (420, 2600, False),
    "report-narrow-dark": (420, 2600, True),
}
"""Width and height in pixels, and whether it is dark."""


def run(folder: Path) -> statuses.Status:
    """Have the example run, and its report written; return a status from its middle."""
    script = folder / "survey.py"
    script.write_text(SCRIPT)
    command = ["mpiexec", "-n", "5", sys.executable, "-m", "mpitasks"]
    command += ["--report", "run.html", "--status", "run.status", script.name]
    process = subprocess.Popen(command, cwd=folder)
    found = None
    try:
        while process.poll() is None:
            time.sleep(0.2)
            try:
                status = statuses.read(str(folder / "run.status"))
            except ConfigurationError:  # not begun
                continue
            if len(status.held) >= 4 and status.done > 60:
                found = found or status
    finally:
        process.kill()
    if process.wait() or found is None:
        raise SystemExit("the example failed")
    return found


def screenshot(page: Path, target: Path, width: int, height: int, dark: bool) -> None:
    """Have Chromium take a picture of a page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("there is no chromium")
    command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars"]
    command += [f"--blink-settings=preferredColorScheme={int(not dark)}"]
    command += [f"--screenshot={target}", f"--window-size={width},{height}"]
    command += ["--virtual-time-budget=2000", page.as_uri()]
    subprocess.run(command, check=True, timeout=60, stderr=subprocess.DEVNULL)


def draw_top(status: statuses.Status, target: Path) -> None:
    """Draw what `mpitasks top` shows of a status, as an SVG that loads nothing."""
    with Path("/dev/null").open("w") as nowhere:
        console = Console(width=84, record=True, force_terminal=True, file=nowhere)
        now = status.written + 0.4
        console.print(picture(status, now, width=84, height=24))
        text = console.export_svg(title="mpitasks top run.status", theme=MONOKAI)
    target.write_text(re.sub(r"@font-face \{.*?\}", "", text, flags=re.DOTALL))


def main() -> None:
    """Write the pictures."""
    target = Path(sys.argv[1]) if sys.argv[1:] else IMAGES
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_top(run(folder), target / "top.svg")
        for look, (width, height, dark) in LOOKS.items():
            if sys.argv[1:] or look == "report":
                path = target / f"{look}.png"
                screenshot(folder / "run.html", path, width, height, dark)
    for path in target.iterdir():
        print(f"{path}: {path.stat().st_size} bytes")
        if target == IMAGES and path.stat().st_size > MOST_BYTES:
            raise SystemExit("that is too large")


if __name__ == "__main__":
    main()
