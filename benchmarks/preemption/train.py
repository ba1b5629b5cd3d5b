"""The rank that is preempted: 50 MB of state, a step of 50 ms, moments on stdout."""

import time

import torch

import periflow_sdk as pf

STATE_BYTES = 50_000_000

torch.set_num_threads(1)
state = {"weights": torch.rand(STATE_BYTES // 4)}
if path := pf.latest_checkpoint():
    state = torch.load(path, weights_only=True)
pf.init(total_train_steps=100_000)
is_first = True
while True:
    with pf.train_step():
        time.sleep(0.05)
    if is_first:
        print(f"first {time.time()}", flush=True)
        is_first = False
    if pf.is_emergency_save():
        begun = time.time()
        pf.save_checkpoint(state)
        print(f"saved {begun} {time.time()}", flush=True)
    if pf.should_stop():
        break
