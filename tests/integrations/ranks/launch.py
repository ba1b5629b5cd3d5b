"""Starts the ranks of a script as forks of one process, which imports the framework once."""

import os
import runpy
import signal
import sys

sys.stdout.reconfigure(write_through=False, line_buffering=True)  # ranks share one pipe
path, ranks = sys.argv[1], int(sys.argv[2])
script = runpy.run_path(path)
pids = []
for rank in range(ranks):
    pids.append(os.fork())
    if pids[-1] == 0:
        count = str(ranks)
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=count, LOCAL_WORLD_SIZE=count
        )
        script["main"]()
        break
else:
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    print("exit codes", codes, flush=True)
    if any(codes):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        sys.exit(max(codes, key=abs) & 0xFF)
