"""Train a small CNN on handwritten digits, with PeriFlow's three lines in the loop."""

import argparse
import math
from pathlib import Path

import torch
from model import DigitsNet, accuracy, load_digits
from torch import nn
from torch.utils.data import DataLoader

import periflow_sdk as pf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with digits.csv.gz")
    parser.add_argument("--save", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()

    torch.manual_seed(0)
    train, test = load_digits(args.data)
    loader = DataLoader(train, batch_size=args.batch_size, shuffle=True)
    steps_per_epoch = math.ceil(len(train) / args.batch_size)
    model = DigitsNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    first_epoch = 0
    if checkpoint := pf.latest_checkpoint():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first_epoch = state["epoch"] + 1
        print(f"resuming after epoch {state['epoch']}")

    args.save.mkdir(parents=True, exist_ok=True)
    pf.init(total_train_steps=args.epochs * steps_per_epoch)
    for epoch in range(first_epoch, args.epochs):
        for images, labels in loader:
            with pf.train_step():
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
                pf.metric({"loss": loss.detach()})
        test_accuracy = accuracy(model, test)
        pf.metric({"test_accuracy": test_accuracy})
        print(f"epoch {epoch:2d}  loss {loss.item():.4f}  test accuracy {test_accuracy:.2%}")
        if epoch % 5 == 4 or epoch == args.epochs - 1:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch,
            }
            torch.save(state, args.save / "checkpoint.pt")
            pf.upload_checkpoint()


if __name__ == "__main__":
    main()
