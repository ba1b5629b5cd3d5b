"""Load a checkpoint of this example and print its accuracy on the test images."""

import argparse
from pathlib import Path

import torch
from model import DigitsNet, accuracy, load_digits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint.pt")
    parser.add_argument("--data", type=Path, required=True, help="folder with digits.csv.gz")
    args = parser.parse_args()
    model = DigitsNet()
    model.load_state_dict(torch.load(args.checkpoint, weights_only=True)["model"])
    _, test = load_digits(args.data)
    print(f"test accuracy of {args.checkpoint}: {accuracy(model, test):.2%}")


if __name__ == "__main__":
    main()
