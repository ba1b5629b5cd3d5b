"""Two ranks on two nodes that save one sharded state."""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import periflow_sdk as pf

torch.set_num_threads(1)
dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
weights = distribute_tensor(torch.arange(6.0), mesh, [Shard(0)])
pf.init(total_train_steps=3)
for number in range(3):
    with pf.train_step():
        weights.to_local().add_(1)
    if number == 0:
        pf.save_checkpoint({"w": weights}, "sharded")
pf.finish()
dist.destroy_process_group()
