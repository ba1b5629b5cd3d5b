"""Make the dataset folder: from the archive of CIFAR-100, or digits in files of its format."""

import argparse
import pickle
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

FOLDER = "cifar-100-python"
FILES = ("train", "test", "meta")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help=f"gets {FOLDER} with {', '.join(FILES)}")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--archive", type=Path, help="cifar-100-python.tar.gz as you have downloaded it"
    )
    source.add_argument(
        "--digits", action="store_true", help="the 1,797 digits inside scikit-learn; no download"
    )
    args = parser.parse_args()
    target = args.folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    if args.digits:
        write_digits(target)
    else:
        unpack(args.archive, target)
    for name in FILES:
        print(f"{target / name}: {(target / name).stat().st_size:,} bytes")


def unpack(archive: Path, target: Path) -> None:
    """Take the three files out of the archive."""
    try:
        with tarfile.open(archive) as tar:
            for name in FILES:
                member = tar.extractfile(f"{FOLDER}/{name}")
                if member is None:
                    raise KeyError(name)
                with member, (target / name).open("wb") as file:
                    shutil.copyfileobj(member, file)
    except (OSError, tarfile.TarError, KeyError) as error:
        sys.exit(f"{archive} is not the archive of CIFAR-100's Python version: {error}")


def write_digits(target: Path) -> None:
    """Write digits of 8 x 8 pixels as images of 32 x 32; every fifth is a test image."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("The digits come with scikit-learn: pip install scikit-learn")
    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype("uint8")
    grey = pixels.repeat(4, axis=1).repeat(4, axis=2).reshape(-1, 1, 1024)
    rows = grey.repeat(3, axis=1).reshape(-1, 3072)
    for name, chosen in (
        ("train", [n for n in range(len(rows)) if n % 5 != 4]),
        ("test", range(4, len(rows), 5)),
    ):
        labels = [int(digits.target[n]) for n in chosen]
        table = {
            "data": rows[list(chosen)],
            "fine_labels": labels,
            "coarse_labels": [label % 2 for label in labels],
            "filenames": [f"digit_{n:04}.png" for n in chosen],
            "batch_label": f"{name}ing batch 1 of 1",
        }
        write(target / name, table)
    names = {"fine_label_names": list("0123456789"), "coarse_label_names": ["even", "odd"]}
    write(target / "meta", names)


def write(path: Path, table: dict[str, Any]) -> None:
    with path.open("wb") as file:
        pickle.dump(table, file, protocol=4)


if __name__ == "__main__":
    main()
