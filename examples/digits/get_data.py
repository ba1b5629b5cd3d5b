"""Copy the handwritten digits that come inside scikit-learn into a folder."""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python get_data.py FOLDER")
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        sys.exit("The digits come with scikit-learn: pip install scikit-learn")
    source = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, folder / source.name)
    print(f"{folder / source.name}: 1,797 images of 8 x 8 pixels")


if __name__ == "__main__":
    main()
