"""The texts, as the Trainer takes them."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

MAX_TOKENS = 32


def load_texts(path: Path) -> list[dict[str, str]]:
    """The rows of a .jsonl file: `topic` and `text`."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def tokenized(
    rows: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, label2id: dict[str, int]
) -> list[dict[str, Any]]:
    """Token ids with the number of the topic, a row each."""
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=MAX_TOKENS)
    return [
        {"input_ids": ids, "labels": label2id[row["topic"]]}
        for ids, row in zip(encoded["input_ids"], rows, strict=True)
    ]
