"""Two ranks without torch that log to a side file which calls have returned.

``train.py SIDE STEPS`` starts a process a rank. ``SIDE/rank-R`` gets one letter a returned call:
m for metric(), s for end_step(), c for upload_checkpoint().
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import periflow_sdk as pf

side, steps = Path(sys.argv[1]), int(sys.argv[2])
rank = os.environ.get("RANK")
if rank is None:
    ranks = [
        subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "RANK": r}) for r in "01"
    ]
    sys.exit(max(abs(process.wait()) for process in ranks))

returned = os.open(side / f"rank-{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
(side / f"pid-{rank}").write_text(str(os.getpid()))
checkpoints = Path(os.environ["CKPT_DIR"])
pf.init(total_train_steps=steps)
for step in range(1, steps + 1):
    pf.start_step()
    time.sleep(0.002)
    for call in (2 * step - 2, 2 * step - 1):
        pf.metric({"call": float(call)})
        os.write(returned, b"m")
    pf.end_step()
    os.write(returned, b"s")
    if rank == "0" and step % 30 == 0:
        (checkpoints / "state.txt").write_text(f"{step}\n" * 1000)
        pf.upload_checkpoint()
        os.write(returned, b"c")
pf.finish()
