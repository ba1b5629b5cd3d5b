"""Load a checkpoint of this example and print its accuracy on the test images."""

import argparse
from pathlib import Path

import torch
from data import load_cifar100
from model import ResNet, count_correct
from torch.utils.data import DataLoader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint.pt")
    parser.add_argument("--data-path", type=Path, required=True, help="holds cifar-100-python")
    parser.add_argument("--depth", type=int, default=8, help="as in training")
    args = parser.parse_args()
    data = load_cifar100(args.data_path)
    model = ResNet(len(data.classes), args.depth)
    state = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    correct = sum(count_correct(model, *batch) for batch in DataLoader(data.test, batch_size=250))
    print(f"test accuracy after step {state['step']}: {correct / len(data.test):.2%}")


if __name__ == "__main__":
    main()
