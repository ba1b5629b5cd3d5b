"""20,000 samples of 8 to 12 kB in every layout, and a SeaweedFS that holds them."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

SAMPLES = 20_000
A_SHARD = 1_000
SHARD_BYTES = 10_000_000
BUCKET = "samples"
KEY, SECRET = "benchmark", "benchmark-secret"
STUBS = Path(__file__).parents[2] / "tests/support"


def contents() -> Iterator[bytes]:
    """The samples, the same each time in length."""
    lengths = random.Random(1)
    for _ in range(SAMPLES):
        yield os.urandom(lengths.randint(8_000, 12_000))


def write_layouts(folder: Path) -> None:
    """The same samples as objects, tar shards, packed shards, litdata, MDS and parquet."""
    from periflow_sdk.data.packing import pack_files
    from periflow_sdk.snapshots.scan import plan_folder

    objects = folder / "objects"
    objects.mkdir(parents=True)
    (folder / "tar").mkdir()
    tar: tarfile.TarFile | None = None
    for number, content in enumerate(contents()):
        (objects / f"{number:06}.bin").write_bytes(content)
        if number % A_SHARD == 0:
            if tar is not None:
                tar.close()
            name = folder / f"tar/{number // A_SHARD:03}.tar"
            tar = tarfile.open(name, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        assert tar is not None
        info = tarfile.TarInfo(f"{number:06}.bin")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    assert tar is not None
    tar.close()
    pack_files(plan_folder(objects).files, folder / "packed")
    for kind in ("litdata", "mds", "parquet"):
        command = [sys.executable, __file__, kind, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{kind} is left out: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)


def write_litdata(folder: Path) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder / "litdata"), chunk_bytes=SHARD_BYTES)
    for number, path in enumerate(sorted((folder / "objects").iterdir())):
        writer.add_item(number, path.read_bytes())
    writer.done()
    writer.merge()


def write_mds(folder: Path) -> None:
    sys.path.append(str(STUBS))
    from foreign_shards import install_stubs

    install_stubs()
    from streaming.base.format.mds.writer import MDSWriter

    with MDSWriter(
        out=str(folder / "mds"), columns={"data": "bytes"}, size_limit=SHARD_BYTES
    ) as writer:
        for path in sorted((folder / "objects").iterdir()):
            writer.write({"data": path.read_bytes()})


def write_parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "parquet").mkdir()
    paths = sorted((folder / "objects").iterdir())
    for start in range(0, SAMPLES, A_SHARD):
        table = pa.table({"data": [path.read_bytes() for path in paths[start : start + A_SHARD]]})
        name = folder / f"parquet/{start // A_SHARD:03}.parquet"
        pq.write_table(table, name, row_group_size=100, compression="none")


@contextlib.contextmanager
def store(folder: Path) -> Iterator[str]:
    """A SeaweedFS with an empty bucket; gives its address."""
    sys.path.append(str(STUBS))
    from seaweed import seaweed_command

    command, url = seaweed_command(folder)
    variables = {**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    folder.mkdir()
    process = subprocess.Popen(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _make_bucket(url)
        yield url
    finally:
        process.kill()  # it would first put its files in order
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _make_bucket(url: str) -> None:
    import obstore

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            try:
                urllib.request.urlopen(url, timeout=1)
            except urllib.error.HTTPError:
                break
        time.sleep(0.1)
    client = bucket_store(url)
    while time.monotonic() < deadline:  # the first object makes the bucket
        with contextlib.suppress(Exception):
            obstore.put(client, "ready", b"x")
            return
        time.sleep(0.2)
    raise TimeoutError("SeaweedFS does not start")


def upload(url: str, folder: Path) -> None:
    """Every file, 32 at a time."""
    from concurrent.futures import ThreadPoolExecutor

    import obstore

    client = bucket_store(url, folder.name)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]

    def put(path: Path) -> None:
        obstore.put(client, path.relative_to(folder).as_posix(), path.read_bytes())

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(put, paths))


def bucket_store(url: str, prefix: str | None = None):  # type: ignore[no-untyped-def]
    """An obstore store of the bucket; make it in the process that uses it."""
    from obstore.store import S3Store

    return S3Store(
        BUCKET,
        prefix=prefix,
        endpoint=url,
        access_key_id=KEY,
        secret_access_key=SECRET,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


if __name__ == "__main__":
    kind, target = sys.argv[1:]
    writers = {"litdata": write_litdata, "mds": write_mds, "parquet": write_parquet}
    writers[kind](Path(target))
