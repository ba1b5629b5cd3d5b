"""`python -m periflow_sdk.agent.retirement`: gives back what agents that are gone hold in memory.

The folders of nodes whose attempts have ended come on standard input, one a line.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.rundir import retire_deserted

_log = logging.getLogger(__name__)
_NICENESS = 19


def main() -> int:
    """Retire each folder named; 0 whatever becomes of them."""
    os.nice(_NICENESS)
    logging.basicConfig(format="%(asctime)s [%(process)d] %(levelname)s %(message)s", level=20)
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        try:
            if path.is_dir() and (left := retire_deserted(NodeFolder.open(path))) is not None:
                _log.info("records that were not sent are in %s: pf job sync %s", left, path)
        except OSError as error:
            _log.warning("%s stays as it is: %s", path, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
