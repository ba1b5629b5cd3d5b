"""Train a small BERT to tell the topic of a text, by HuggingFace's Trainer."""

import argparse
from pathlib import Path

import numpy as np
import torch
from topic import MAX_TOKENS, load_texts, tokenized
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils.logging import disable_progress_bar

import periflow_sdk as pf
from periflow_integrations.transformers import PeriFlowCallback


def main() -> None:
    args = parsed_arguments()
    set_seed(args.seed)
    disable_progress_bar()  # a log is no terminal
    rows = load_texts(args.data / "train.jsonl")
    topics = sorted({row["topic"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(args.data / "tokenizer")
    model = new_model(args.model, topics, len(tokenizer))
    numbers = model.config.label2id
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=args.save,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.lr,
            seed=args.seed,
            logging_steps=1,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            disable_tqdm=True,
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=tokenized(rows, tokenizer, numbers),
        eval_dataset=tokenized(load_texts(args.data / "test.jsonl"), tokenizer, numbers),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=accuracy,
        callbacks=[PeriFlowCallback()],
    )
    trainer.train(resume_from_checkpoint=pf.latest_checkpoint())


def new_model(name: str | None, topics: list[str], tokens: int) -> PreTrainedModel:
    """Two layers that know nothing yet, or the weights that the user names."""
    labels = {
        "id2label": dict(enumerate(topics)),
        "label2id": {topic: number for number, topic in enumerate(topics)},
    }
    if name is not None:
        return AutoModelForSequenceClassification.from_pretrained(name, **labels)
    config = BertConfig(
        vocab_size=tokens,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=MAX_TOKENS,
        **labels,
    )
    return BertForSequenceClassification(config)


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """The share of texts whose topic is told, from 0 to 1."""
    answers = np.argmax(prediction.predictions, axis=1)
    return {"accuracy": float(np.mean(answers == prediction.label_ids))}


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder made by get_data.py")
    parser.add_argument("--save", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--model", help="begin with these weights: a folder or a name")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
