"""What `mkdocs build` does beside rendering the pages of docs/.

The README becomes the first page, and the API reference is made of `mpitasks.__all__`,
so that no public name can be forgotten. Links to files of the repository that are no
pages of the site become text. The pages themselves stay readable where they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import mpitasks

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)#\s]*)(#[^)\s]*)?\)")

INTERFACE = {
    "Running tasks": ["Executor", "Future", "Pool", "TaskOptions", "as_completed"],
    "Starting": ["run", "start", "subprocess_environment"],
    "Inside a task": ["current_task", "CurrentTask", "rng", "stopping", "time_left"],
    "What happened": ["RunStatistics", "LabelStatistics", "LinkStatistics"],
}
"""Sections of the API reference. Names that stand in none of them get theirs."""


MEMBERS = {
    "Future": [
        "result",
        "exception",
        "done",
        "running",
        "cancel",
        "cancelled",
        "add_done_callback",
        "nbytes",
        "ranks",
        "is_kept",
    ]
}
"""What is public of classes that have more for the rest of the package."""

FENCE = re.compile(r"^```(\w+) \w.*$", re.MULTILINE)
PICTURES = ["benchmarks/results/summary.png"]
"""Those of the repository that pages show and that are not in docs/."""


MODULES = ["mpitasks.slurm", "mpitasks.futures"]
"""Public modules, each with a section of its own."""

NOT_ENTRIES = {"__version__", "slurm"}
"""A string, and a module that has its section."""

AWAITED = {"actors.md", "groups.md", "resources.md"}
"""Pages with a place in the navigation that need not be there yet."""


def on_config(config: Any) -> Any:
    """Take the awaited pages that are absent out of the navigation."""
    absent = {name for name in AWAITED if not Path(config["docs_dir"], name).exists()}

    def kept(items: list[Any]) -> list[Any]:
        left = []
        for item in items:
            ((title, value),) = item.items()
            if isinstance(value, list):
                left.append({title: kept(value)})
            elif value not in absent:
                left.append(item)
        return left

    config["nav"] = kept(config["nav"])
    return config


def on_post_build(config: Any) -> None:
    """Fail if a public name has no entry in the API reference as it was rendered."""
    html = Path(config["site_dir"], "api", "index.html").read_text()
    entries = set(re.findall(r'id="([\w.]+)"', html))
    wanted = {full_name(name) for name in set(mpitasks.__all__) - NOT_ENTRIES}
    missing = (wanted | set(MODULES)) - entries
    if missing:
        raise PluginError(f"not in the API reference: {', '.join(sorted(missing))}")


def full_name(name: str) -> str:
    """Return a public name with the module that it comes from."""
    return f"{getattr(mpitasks, name).__module__}.{name}"


def reference() -> str:
    """Return the page of the API reference."""
    public = [name for name in mpitasks.__all__ if name not in NOT_ENTRIES]
    errors = [
        name
        for name in public
        if isinstance(getattr(mpitasks, name), type)
        and issubclass(getattr(mpitasks, name), BaseException)
    ]
    placed = {name for names in INTERFACE.values() for name in names}
    rest = [name for name in public if name not in placed and name not in errors]
    sections = {**INTERFACE, "More": rest, "Errors": sorted(errors)}
    lines = [
        "# API reference",
        "",
        "Names are imported from `mpitasks`, except those of the last sections.",
        "",
    ]
    for title, names in sections.items():
        known = [name for name in names if name in public]
        if known:
            lines += [f"## {title}", ""]
            for name in known:
                lines += [f"::: {full_name(name)}"]
                if name in MEMBERS:
                    lines += ["    options:", f"      members: {MEMBERS[name]}"]
                lines += [""]
    for module in MODULES:
        lines += [f"## {module}", "", f"::: {module}", ""]
    return "\n".join(lines)


def first_page() -> str:
    """Return the README, with its links as they are seen from docs/."""
    text = (ROOT / "README.md").read_text()
    text = re.sub(r"\]\((?!https?:|#|docs/)([^)\s]+)\)", r"](../\1)", text)
    return text.replace("](docs/", "](")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made here."""
    files.append(File.generated(config, "index.md", content=first_page()))
    files.append(File.generated(config, "api.md", content=reference()))
    for name in PICTURES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Make text of links to what is no page, and plain fences of those for tests."""

    def shown(match: re.Match[str]) -> str:
        text, target, _ = match.groups()
        path = (Path(config["docs_dir"]) / target).resolve()
        inside = path.is_relative_to(Path(config["docs_dir"]).resolve())
        if inside or not target:
            return match[0]
        name = path.relative_to(ROOT).as_posix()
        return text if name in text or text.startswith("`") else f"{text} (`{name}`)"

    for name in PICTURES:
        markdown = markdown.replace(f"](../{name})", f"]({name})")
    return LINK.sub(shown, FENCE.sub(r"```\1", markdown))
