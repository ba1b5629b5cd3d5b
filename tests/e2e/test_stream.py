"""A linked bucket, two ranks that train from it, and ends of all kinds in between."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest
from cloud import S3_KEY, S3_SECRET
from obstore.store import S3Store

FOLDER = Path(__file__).parent / "streaming_job"


class Bucket:
    """Small objects in a real store."""

    def __init__(self, url: str, name: str, count: int) -> None:
        self.url, self.name = url, name
        self.keys = [f"{n % 10}/{n:06}.bin" for n in range(count)]
        self._store = S3Store(
            name,
            prefix="pictures",
            endpoint=url,
            access_key_id=S3_KEY,
            secret_access_key=S3_SECRET,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def fill(self) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: obstore.put(self._store, key, key.encode() * 20), self.keys))

    def copy(self, folder: Path) -> None:
        """The same as local files."""
        for key in self.keys:
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key.encode() * 20)

    def empty(self) -> None:
        for start in range(0, len(self.keys), 1000):
            obstore.delete(self._store, self.keys[start : start + 1000])


class Training:
    """The job of the streaming script, by the commands that an engineer types."""

    def __init__(self, stranger: Any, bucket: Bucket, options: str = "") -> None:
        self.stranger = stranger
        self.folder = stranger.folder / "side"
        self.folder.mkdir()
        stranger.environment |= {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET}
        key = ("-n", "bucket-key", "--aws-default-region", "us-east-1", "--no-verify")
        stranger.pf("credential", "create", "s3", *key)
        where = ("-c", "s3", "-s", bucket.name, "-p", "pictures", "--endpoint-url", bucket.url)
        stranger.pf("dataset", "create", "-n", "pictures", *where, "-i", "bucket-key")
        torchrun = "OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 --max-restarts 1"
        template = stranger.folder / "job.yml"
        template.write_text(
            "vm: local-cpu\nnum_devices: 2\njob_setting:\n  type: custom\n  docker:\n"
            "    image: none\n"
            f"    command: {torchrun} /workspace/streaming_job/train.py {self.folder} {options}\n"
            "data:\n- name: pictures\n  mode: stream\n"
            "checkpoint:\n  output_checkpoint_dir: /workspace/ckpt\n"
            "restart:\n  backoff_seconds: 0\n"
        )
        job = stranger.json("job", "run", "-f", template, "-d", FOLDER)
        self.number = job["number"]
        self.nodes = stranger.home / "server/jobs" / job["id"]

    def log(self) -> list[str]:
        """What all attempts have printed, from their node folders: cheap enough to be polled."""
        found = sorted(self.nodes.glob("*/0/output.log"), key=lambda path: int(path.parts[-3]))
        return [line for path in found for line in path.read_text().splitlines()]

    def begun(self) -> list[tuple[int, int]]:
        """Pid and first step of rank 1, each time that it began."""
        found = (re.match(r"rank 1 pid (\d+) begins at (\d+)", line) for line in self.log())
        return [(int(match[1]), int(match[2])) for match in found if match]

    def wait_for(self, line: str, seconds: float = 120) -> None:
        self.stranger.wait_until(
            lambda: line in self.log(),
            seconds,
            lambda: f"{self.stranger.job(self.number)}\n{self.log()}",
        )

    def wait_for_steps(self, steps: int, beginning: int) -> None:
        """Wait until so many steps are done since the ranks began for the n-th time."""
        self.stranger.wait_until(
            lambda: len(self.begun()) >= beginning,
            120,
            lambda: f"{self.stranger.job(self.number)}\n{self.log()}",
        )
        self.wait_for(f"did {self.begun()[-1][1] + steps}")

    def has_seen(self, rank: int, step: int) -> bool:
        return f"\n{step} " in (self.folder / f"seen-{rank}").read_text()

    def seen(self, rank: int) -> Iterator[tuple[int, list[str]]]:
        """Step and samples, as often as they were trained on."""
        for line in (self.folder / f"seen-{rank}").read_text().splitlines():
            step, *keys = line.split()
            yield int(step), keys


def check_epochs(training: Training, bucket: Bucket, epochs: int) -> None:
    """Each sample has come once in each epoch, and a repeated step had the same ones again."""
    by_rank = []
    for rank in range(2):
        steps: dict[int, list[str]] = {}
        for step, keys in training.seen(rank):
            assert steps.setdefault(step, keys) == keys
        by_rank.append(steps)
    count = len(by_rank[0])
    assert all(sorted(steps) == list(range(1, count + 1)) for steps in by_rank)
    each = count // epochs
    for epoch in range(epochs):
        span = range(epoch * each + 1, (epoch + 1) * each + 1)
        keys = [key for steps in by_rank for step in span for key in steps[step]]
        assert sorted(keys) == sorted(key.removesuffix(".bin") for key in bucket.keys)
    assert by_rank[0][1] != by_rank[0][each + 1]


def end_and_resume(
    training: Training,
    bucket: Bucket,
    epoch_steps: int,
    *,
    killed_after: int = 0,
    seconds: float = 120,
) -> Any:
    """Preempt it, kill a rank, empty the bucket after the first epoch; the job in the end."""
    stranger = training.stranger
    training.wait_for_steps(9, 1)
    stranger.pf("job", "preempt", training.number)
    training.wait_for_steps(12, 2)
    training.wait_for(f"did {max(killed_after, training.begun()[-1][1])}", seconds)
    before = [step for step, _ in training.seen(1)]
    preempted_at = training.begun()[1][1]
    # The preemption has neither lost nor repeated a step.
    assert before == list(range(1, len(before) + 1)) and len(before) > preempted_at
    os.kill(training.begun()[-1][0], signal.SIGKILL)
    training.wait_for_steps(1, 3)
    (training.folder / "hurry").touch()
    stranger.wait_until(
        lambda: all(training.has_seen(rank, epoch_steps) for rank in range(2)),
        seconds,
        lambda: str(training.log()),
    )
    bucket.empty()
    (training.folder / "gate").touch()
    return stranger.wait_for_job(training.number, seconds=seconds)


def test_ranks_that_are_preempted_and_killed_see_each_object_of_a_bucket_once_an_epoch(
    stranger, s3_url: str
) -> None:
    bucket = Bucket(s3_url, "streamed-few", 800)
    bucket.fill()
    training = Training(stranger, bucket)
    job = end_and_resume(training, bucket, 200)
    assert job["status"] == "success", training.log()
    assert [attempt["status"] for attempt in job["attempts"]] == ["preempted", "success"]
    check_epochs(training, bucket, 2)
    # From the newest checkpoint on, not from the beginning of the attempt.
    (_, second), (_, third) = training.begun()[1:]
    assert second < third and third % 10 == 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_objects_are_read_again_at_the_speed_of_local_files(
    stranger, s3_url: str
) -> None:
    bucket = Bucket(s3_url, "streamed-many", 100_000)
    bucket.fill()
    local = stranger.folder / "local"
    bucket.copy(local)
    options = f"--batch-size 50 --save-every 100 --compare {local}"
    training = Training(stranger, bucket, options)
    job = end_and_resume(training, bucket, 1000, killed_after=550, seconds=1200)
    assert job["status"] == "success", training.log()
    assert [attempt["status"] for attempt in job["attempts"]] == ["preempted", "success"]
    check_epochs(training, bucket, 2)
    # Killed in the middle of the epoch, it went on from there.
    assert training.begun()[-1][1] in (400, 500)
    times = [match for line in training.log() if (match := re.match(r"(.*?)(\S+) seconds$", line))]
    again, local = (float(match[2]) for match in times[-2:])
    print(f"second epoch {again:.2f} s, the same from local files {local:.2f} s")
    assert times[-1][1] == "local: " and again < 2 * local, training.log()
