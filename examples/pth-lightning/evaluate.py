"""Load a checkpoint of this example and print its loss on the validation images."""

import argparse
from pathlib import Path

import torch
from model import AutoEncoder, load_mnist
from torch.nn.functional import mse_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a .ckpt file, or the folder that holds one")
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist_5k.csv.gz")
    args = parser.parse_args()
    path = args.checkpoint
    if path.is_dir():
        (path,) = path.glob("*.ckpt")
    model = AutoEncoder.load_from_checkpoint(path, map_location="cpu").eval()
    (images,) = load_mnist(args.data)[1].tensors
    with torch.no_grad():
        loss = mse_loss(model(images), images)
    print(f"validation loss of {path.name}: {loss:.4f}")


if __name__ == "__main__":
    main()
