"""Adds up one number of every rank."""

import os
import sys

import torch
import torch.distributed as dist

sys.stdout.reconfigure(write_through=False, line_buffering=True)  # ranks share one pipe
torch.set_num_threads(1)
dist.init_process_group("gloo")
total = torch.tensor([10.0 ** dist.get_rank()])
dist.all_reduce(total)
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "NUM_NODES", "NPROC_PER_NODE")
print(" ".join(f"{name}={os.environ[name]}" for name in names), f"total={int(total)}", flush=True)
dist.destroy_process_group()
