"""Load a checkpoint of this example, print its accuracy, and tell the topic of a text of yours."""

import argparse
from pathlib import Path

import torch
from topic import MAX_TOKENS, load_texts
from transformers import pipeline
from transformers.utils.logging import disable_progress_bar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint-N, or the folder that holds it")
    parser.add_argument("--data", type=Path, help="folder made by get_data.py")
    parser.add_argument("--text", help="a text to tell the topic of")
    args = parser.parse_args()
    disable_progress_bar()
    folder = args.checkpoint
    if not (folder / "config.json").exists():
        (folder,) = folder.glob("checkpoint-*")
    topic_of = pipeline("text-classification", str(folder), device="cpu")
    if args.text:
        print(f"{args.text!r}: {topic_of(args.text)[0]['label']}")
    if args.data:
        rows = load_texts(args.data / "test.jsonl")
        with torch.no_grad():
            answers = topic_of(
                [row["text"] for row in rows],
                batch_size=32,
                truncation=True,
                max_length=MAX_TOKENS,
            )
        right = sum(
            answer["label"] == row["topic"] for answer, row in zip(answers, rows, strict=True)
        )
        print(f"test accuracy of {folder.name}: {right / len(rows):.2%}")


if __name__ == "__main__":
    main()
