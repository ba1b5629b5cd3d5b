"""Train a ResNet on CIFAR-100: plain PyTorch, one process a device, started by torchrun."""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn  # before there is a group: as default arguments its functions keep it
from data import Cifar100, augmented, load_cifar100
from model import ResNet, count_correct
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset

import periflow_sdk as pf
from periflow_sdk.data import ResumableRandomSampler


def main() -> None:
    args = parsed_arguments()
    torch.manual_seed(args.seed)
    has_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if has_gpu else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    train(args, load_cifar100(args.data_path), device)
    pf.finish()
    # Nothing holds the group any more, so this ends gloo's threads. Those that live on while
    # Python shuts down may abort the process, or hang it.
    dist.destroy_process_group()


def train(args: argparse.Namespace, data: Cifar100, device: torch.device) -> None:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    sampler = ResumableRandomSampler(
        len(data.train),
        args.batch_size,
        seed=args.seed,
        data_parallel_rank=rank,
        data_parallel_size=ranks,
    )
    loader = DataLoader(data.train, batch_sampler=sampler)
    total = args.total_epochs * len(sampler)
    model = ResNet(len(data.classes), args.depth).to(device)
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=total)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    step = load(args.load, parts, device) if args.load else 0
    replica = DistributedDataParallel(model)

    pf.init(total_train_steps=total, config=args)
    sampler.set_processed_steps(step)
    while step < total and not pf.should_stop():
        for images, labels in loader:
            with pf.train_step():
                step += 1
                images = augmented(images, seed=step * ranks + rank)
                scores = replica(images.to(device))
                loss = nn.functional.cross_entropy(scores, labels.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                pf.metric({"loss": loss.detach(), "lr": schedule.get_last_lr()[0]})
            if step % args.log_interval == 0 and rank == 0:
                print(f"step {step} of {total}: loss {loss.item():.3f}")
            is_due = step % args.save_interval == 0 or step == total
            if (pf.is_emergency_save() or is_due) and rank == 0:
                save(args.save, parts, step)
            if pf.should_stop():
                break
        else:
            report_accuracy(model, data, sampler.epoch, device)


def load(folder: Path, parts: dict[str, Any], device: torch.device) -> int:
    """Go on from the checkpoint of this folder, if there is one; the step it was saved after."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    if dist.get_rank() == 0:
        print(f"goes on after step {state['step']}")
    return int(state["step"])


def save(folder: Path, parts: dict[str, Any], step: int) -> None:
    """Write over the one checkpoint.pt; the upload has its own copy when the call returns."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**state, "step": step}, folder / "checkpoint.pt")
    pf.upload_checkpoint(folder / "checkpoint.pt")


def report_accuracy(model: nn.Module, data: Cifar100, epochs: int, device: torch.device) -> None:
    """Each rank looks at its part of the test images."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    part = Subset(data.test, range(rank, len(data.test), ranks))
    for statistic in model.buffers():  # each rank has gathered its own
        dist.broadcast(statistic, 0)
    correct = torch.zeros((), device=device)
    for images, labels in DataLoader(part, batch_size=250):
        pf.should_stop()  # a node that will be taken need not wait for the next step
        correct += count_correct(model, images.to(device), labels.to(device))
    dist.all_reduce(correct)
    test_accuracy = correct.item() / len(data.test)
    pf.metric({"test_accuracy": test_accuracy})
    if rank == 0:
        print(f"epoch {epochs}: test accuracy {test_accuracy:.2%}")


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-path", type=Path, required=True, help="holds cifar-100-python")
    parser.add_argument("--save", type=Path, required=True, help="folder for checkpoint.pt")
    parser.add_argument("--load", type=Path, help="go on from the checkpoint.pt of this folder")
    parser.add_argument("--depth", type=int, default=8, help="of the network: 8, 14, 20, ...")
    parser.add_argument("--batch-size", type=int, default=64, help="of all ranks together")
    parser.add_argument("--total-epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-interval", type=int, default=50, help="in steps")
    parser.add_argument("--log-interval", type=int, default=10, help="in steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
