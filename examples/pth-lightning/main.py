"""Train an autoencoder on MNIST by PyTorch Lightning; PeriFlow is one callback."""

import argparse
import sys
from pathlib import Path

from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from model import AutoEncoder, load_mnist
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import periflow_sdk as pf
from periflow_integrations.lightning import PeriFlowCallback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist_5k.csv.gz")
    parser.add_argument("--save", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()

    seed_everything(0)
    train, validation = load_mnist(args.data)
    trainer = Trainer(
        max_epochs=args.epochs,
        callbacks=[PeriFlowCallback(), ModelCheckpoint(args.save)],
        logger=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),
    )
    trainer.fit(
        AutoEncoder(lr=args.lr),
        # Its place in the data goes into checkpoints: a run goes on in the middle of an epoch.
        StatefulDataLoader(train, args.batch_size, shuffle=True),
        DataLoader(validation, batch_size=500),
        ckpt_path=pf.latest_checkpoint(),
    )


if __name__ == "__main__":
    main()
