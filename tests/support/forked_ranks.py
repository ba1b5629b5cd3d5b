"""Starts ranks as forks of one process that has imported what the script does: torch above all.

``forked_ranks.py RANKS SCRIPT [OPTION...]``, on each node of a job or outside one. For tests that
are not about torchrun, which would load torch once more for itself and for each rank.
"""

import ast
import os
import runpy
import signal
import socket
import sys
from pathlib import Path


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


ranks, script = int(sys.argv[1]), sys.argv[2]
for statement in ast.parse(Path(script).read_text()).body:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        exec(compile(ast.Module([statement], []), script, "exec"), {})
os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
os.environ.setdefault("MASTER_PORT", free_port())
nodes, node = (int(os.environ.get(name, n)) for name, n in (("NUM_NODES", 1), ("NODE_RANK", 0)))
pids: list[int] = []
for local_rank in range(ranks):
    pids.append(os.fork())
    if pids[-1] == 0:
        os.environ |= {
            "RANK": str(node * ranks + local_rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(nodes * ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
        }
        sys.argv = sys.argv[2:]
        runpy.run_path(script, run_name="__main__")
        sys.exit()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: [os.kill(pid, number) for pid in pids])
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF for pid in pids))
