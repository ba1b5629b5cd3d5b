"""Reads the samples twice by one library, in a process of its own.

    python reader.py NAME URL FOLDER

Prints samples a second of the first epoch (empty cache; opening the data set included) and of the
second one, and CPU seconds of both, with those of every process that they have started. What a
reader hands out is bytes, 64 at a time, from two workers.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from data import BUCKET, KEY, SAMPLES, SECRET, STUBS, bucket_store

BATCH, WORKERS = 64, 2
PR_SET_CHILD_SUBREAPER = 36
FEW = 4_000  # samples of the readers that would take minutes


def identity(batch: Any) -> Any:
    return batch


def as_bytes(batch: Any) -> list[bytes]:
    """Litdata gives views of its memory, which cannot leave a worker."""
    return [bytes(each) for each in batch]


def content(sample: Any) -> bytes:
    return sample["bin"]


def data(sample: Any) -> bytes:
    return sample["data"]


def loader(dataset: Any, **options: Any) -> Any:
    from torch.utils.data import DataLoader

    defaults = {"batch_size": BATCH, "num_workers": WORKERS, "persistent_workers": True}
    if "batch_sampler" in options:
        del defaults["batch_size"]
    return DataLoader(dataset, collate_fn=identity, **(defaults | options))


def ours(layout: str, field: Callable[[Any], bytes] | None, shuffle: bool = False) -> Any:
    def make(url: str, folder: Path, cache: Path) -> Any:
        from bucket import bucket_dataset

        from periflow_sdk.data import stream

        dataset = bucket_dataset(url, layout, cache)
        samples = stream(dataset, transform=field, shuffle=shuffle)
        return loader(samples, batch_sampler=samples.batches(BATCH))

    return make


def litdata(url: str, folder: Path, cache: Path) -> Any:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming import downloader

    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = "true"
    options = {
        "endpoint_url": url,
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
        "region_name": "us-east-1",
    }
    dataset = StreamingDataset(
        f"s3://{BUCKET}/litdata", cache_dir=str(cache), storage_options=options
    )
    return StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=as_bytes, persistent_workers=True
    )


def mosaicml(url: str, folder: Path, cache: Path) -> Any:
    os.environ |= {
        "S3_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    from streaming.base import StreamingDataset

    dataset = StreamingDataset(
        remote=f"s3://{BUCKET}/mds",
        local=str(cache),
        batch_size=BATCH,
        shuffle=False,
        predownload=4_000,
    )
    return loader(dataset)


def webdataset(url: str, folder: Path, cache: Path) -> Any:
    import webdataset as wds

    signed = [f"pipe:curl -s '{each}'" for each in _signed_tars(url, folder)]
    dataset = wds.WebDataset(
        signed, shardshuffle=False, nodesplitter=wds.split_by_node, empty_check=False
    )
    return loader(dataset.map(content))


def webdataset_cached(url: str, folder: Path, cache: Path) -> Any:
    import webdataset as wds

    cache.mkdir(exist_ok=True)
    dataset = wds.WebDataset(
        [f"pipe:curl -s '{each}'" for each in _signed_tars(url, folder)],
        cache_dir=str(cache),
        shardshuffle=False,
        empty_check=False,
        url_to_name=lambda each: each.partition("?")[0].rpartition("/")[2],
    )
    return loader(dataset.map(content))


def _signed_tars(url: str, folder: Path) -> list[str]:
    from datetime import timedelta

    import obstore

    paths = [f"tar/{path.name}" for path in sorted((folder / "tar").glob("*.tar"))]
    child, parent = os.pipe()
    pid = os.fork()  # obstore must not be used before workers are forked
    if pid == 0:
        signed = obstore.sign(bucket_store(url), "GET", paths, timedelta(hours=1))
        os.write(parent, json.dumps(signed).encode())
        os._exit(0)
    os.close(parent)
    with os.fdopen(child) as lines:
        found: list[str] = json.loads(lines.read())
    os.waitpid(pid, 0)
    return found


def hf_datasets(url: str, folder: Path, cache: Path) -> Any:
    from datasets import load_dataset

    files = [f"s3://{BUCKET}/parquet/{n:03}.parquet" for n in range(SAMPLES // 1000)]
    dataset = load_dataset(
        "parquet",
        data_files=files,
        split="train",
        streaming=True,
        cache_dir=str(cache),
        storage_options=_fsspec_options(url),
    )
    return loader(dataset.map(lambda row: row))


def _fsspec_options(url: str) -> dict[str, Any]:
    return {"key": KEY, "secret": SECRET, "endpoint_url": url}


class Objects:
    """One object a sample, map-style.

    Args:
        url: Of the store.
        count: How many samples.
    """

    def __init__(self, url: str, count: int) -> None:
        self.url, self.count = url, count
        self.client: Any = None

    def __len__(self) -> int:
        return self.count


class S3fsObjects(Objects):
    def __getitem__(self, number: int) -> bytes:
        if self.client is None:
            import s3fs

            self.client = s3fs.S3FileSystem(**_fsspec_options(self.url), skip_instance_cache=True)
        return self.client.cat_file(f"{BUCKET}/objects/{number:06}.bin")


class ObstoreObjects(Objects):
    def __getitems__(self, numbers: list[int]) -> list[bytes]:
        import asyncio

        import obstore

        if self.client is None:
            self.client = bucket_store(self.url)

        async def one(number: int) -> bytes:
            found = await obstore.get_async(self.client, f"objects/{number:06}.bin")
            return bytes(await found.bytes_async())

        async def many() -> list[bytes]:
            return await asyncio.gather(*map(one, numbers))

        return asyncio.run(many())


def s3fs_objects(url: str, folder: Path, cache: Path) -> Any:
    return loader(S3fsObjects(url, FEW))


def obstore_objects(url: str, folder: Path, cache: Path) -> Any:
    return loader(ObstoreObjects(url, SAMPLES))


def plain_loader(url: str, folder: Path, cache: Path) -> Any:
    """The limit of the loader: shards from the page cache, walked by nothing but their sizes."""
    from torch.utils.data import IterableDataset, get_worker_info

    class Tars(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[bytes]:
            info = get_worker_info()
            paths = sorted((folder / "tar").glob("*.tar"))
            for path in paths[info.id :: info.num_workers]:
                yield from walk(path.read_bytes())

    return loader(Tars())


def walk(tar: bytes) -> Iterator[bytes]:
    at = 0
    while tar[at]:
        size = int(tar[at + 124 : at + 135], 8)
        at += 512
        yield tar[at : at + size]
        at += (size + 511) & ~511


class RawGets:
    """The limit of the wire: whole shards, 8 in flight, no loader."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.paths = [f"tar/{path.name}" for path in sorted((folder / "tar").glob("*.tar"))]

    def __iter__(self) -> Iterator[range]:
        from concurrent.futures import ThreadPoolExecutor

        import obstore

        client = bucket_store(self.url)
        with ThreadPoolExecutor(8) as pool:
            for tar in pool.map(lambda path: obstore.get(client, path).bytes(), self.paths):
                assert len(tar) > 1_000_000
                yield range(1_000)


def raw_gets(url: str, folder: Path, cache: Path) -> Any:
    return RawGets(url, folder)


READERS: dict[str, Callable[[str, Path, Path], Iterable[Any]]] = {
    "raw GETs": raw_gets,
    "plain loader": plain_loader,
    "ours, packed": ours("packed", content),
    "ours, packed, shuffled": ours("packed", content, shuffle=True),
    "ours, tar": ours("tar", content),
    "ours, litdata": ours("litdata", None),
    "ours, mds": ours("mds", data),
    "ours, parquet": ours("parquet", data),
    "ours, objects": ours("objects", content),
    "litdata": litdata,
    "mosaicml-streaming": mosaicml,
    "webdataset": webdataset,
    "webdataset, cache_dir": webdataset_cached,
    "HF datasets": hf_datasets,
    "s3fs, objects": s3fs_objects,
    "obstore, objects": obstore_objects,
}


def import_all(name: str) -> None:
    """What a reader imports is no part of its time."""
    modules = ["torch.utils.data", "obstore"] if name.startswith(("raw", "plain", "obst")) else []
    if name.startswith("ours"):
        modules = ["torch.utils.data", "bucket", "periflow_sdk.data.streaming.tar"]
        modules += [f"periflow_sdk.data.streaming.{each}" for each in ("mds", "litdata", "parquet")]
        modules += ["pyarrow.parquet"] if "parquet" in name else []
    for start, module in (
        ("litdata", "litdata.streaming.downloader"),
        ("webdataset", "webdataset"),
        ("HF", "datasets"),
        ("s3fs", "s3fs"),
    ):
        modules += [module] if name.startswith(start) else []
    if name.startswith("mosaicml"):
        install()
        modules = ["streaming.base"]
    for module in ["torch.utils.data", *modules]:
        importlib.import_module(module)


def install() -> None:
    sys.path.append(str(STUBS))
    from foreign_shards import install_stubs

    install_stubs(keep=("boto3", "botocore"))


def measure(name: str, url: str, folder: Path) -> dict[str, float]:
    cache = Path(tempfile.mkdtemp(dir=folder))
    os.environ["PERIFLOW_CACHE_DIR"] = str(cache / "periflow")
    try:
        import_all(name)
        imported = cpu_seconds(resource.RUSAGE_SELF) + cpu_seconds(resource.RUSAGE_CHILDREN)
        rates = []
        for epoch in range(2):
            start = time.perf_counter()
            if epoch == 0:
                samples = READERS[name](url, folder, cache / "cache")
            count = sum(len(batch) for batch in samples)
            rates.append(count / (time.perf_counter() - start))
            assert count >= FEW, count
        del samples
        return {"cold": rates[0], "warm": rates[1], "imported": imported}
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def cpu_seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def measure_apart(name: str, url: str, folder: Path) -> dict[str, float]:
    """The same in a child, whose orphans come to this process: none of their seconds is lost."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("orphans do not come to this process")
    child = subprocess.Popen(
        [sys.executable, __file__, name, url, str(folder), "measure"], stdout=-1
    )
    found: dict[str, float] = json.loads(child.communicate()[0].strip().splitlines()[-1])
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    found["cpu"] = cpu_seconds(resource.RUSAGE_CHILDREN) - found.pop("imported")
    return found


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(measure_apart(*sys.argv[1:3], Path(sys.argv[3]))))
    else:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(measure(*sys.argv[1:3], Path(sys.argv[3]))))
