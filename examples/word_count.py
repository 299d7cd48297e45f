"""Count words in text files: a map and a reduction by key, as one would with Spark.

Each task counts the words of a file and deals the counts out to groups, by the first
letter. A second round of tasks adds up the counts of one group each; its arguments are
the futures of the first round. The script never sees the text. Without files it writes
some of its own. Start it with workers, or without:

    mpiexec -n 4 python -m mpitasks examples/word_count.py
    mpiexec -n 4 python -m mpitasks examples/word_count.py novel.txt letters/*.txt
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import mpitasks

GROUPS = 8
WORDS = "the sea and the sky were grey as the wind came up from the south that day"


def write_texts(folder: Path, count: int, seed: int) -> list[Path]:
    """Write files of words; return their paths."""
    rng = np.random.default_rng(seed)
    words = np.array(WORDS.split())
    paths = []
    for number in range(count):
        path = folder / f"text-{number}.txt"
        path.write_text("\n".join(" ".join(rng.choice(words, 12)) for _ in range(2000)))
        paths.append(path)
    return paths


def count_words(path: Path) -> list[Counter[str]]:
    """Return the counts of the words in a file, one counter for each group."""
    groups: list[Counter[str]] = [Counter() for _ in range(GROUPS)]
    text = path.read_text(errors="replace").lower()
    for word, count in Counter(re.findall(r"[^\W\d_]+", text)).items():
        groups[ord(word[0]) % GROUPS][word] += count
    return groups


def add_group(group: int, counts: list[list[Counter[str]]]) -> Counter[str]:
    """Return the counts of a group, over all files."""
    return sum((own[group] for own in counts), Counter())


def count_all(paths: Iterable[Path]) -> Counter[str]:
    """Count the words of all files on the workers."""
    with mpitasks.Executor() as executor:
        counted = [executor.submit(count_words, path) for path in paths]
        added = executor.map(add_group, range(GROUPS), [counted] * GROUPS)
        return sum(added, Counter())


def main() -> None:
    """Count, and print the most frequent words."""
    parser = argparse.ArgumentParser(description="Count words in text files.")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--texts", type=int, default=20, help="files to write instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--top", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = args.files or write_texts(Path(folder), args.texts, args.seed)
        counts = count_all(paths)
    print(
        f"Files: {len(paths)}, Words: {sum(counts.values())}, Different: {len(counts)}"
    )
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for word, count in ranked[: args.top]:
        print(f"{count:8} {word}")


if __name__ == "__main__":
    main()
