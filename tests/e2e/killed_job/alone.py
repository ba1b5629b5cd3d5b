"""Waits for a file, logs 20,000 values in 10,000 calls, and is killed: ``alone.py FILE``."""

import os
import signal
import sys
import time
from pathlib import Path

import periflow_sdk as pf

gate = Path(sys.argv[1])
pf.init(total_train_steps=20_000)
Path(f"{gate}.waiting").touch()
while not gate.exists():
    time.sleep(0.02)
for call in range(10_000):
    with pf.train_step():
        pf.metric({"loss": call + 0.5, "lr": 1 / (call + 1)})
os.kill(os.getpid(), signal.SIGKILL)
