"""Datasets in jobs: copied into the machine's cache or streamed, and never changed."""

from __future__ import annotations

import textwrap
import uuid
from pathlib import Path
from typing import Any

import pytest
from cloud import S3_KEY, S3_SECRET, fill_s3

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.credential import CredentialPlace
from periflow_sdk.data.cache import Cache
from periflow_sdk.snapshots import upload_folder

FILES = {"in/a.txt": b"alpha", "in/sub/b.txt": b"beta"}


def python(code: str) -> str:
    return f"python - <<'END'\n{textwrap.dedent(code)}\nEND"


@pytest.fixture(scope="module")
def bucket(client: Any, s3_url: str) -> str:
    """The datasets ``linked`` and ``other`` are in it."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    fill_s3(s3_url, name, FILES)
    key = m.S3CredentialCreate(
        name="key",
        aws_access_key_id=S3_KEY,
        aws_secret_access_key=S3_SECRET,
        aws_default_region="us-east-1",
    )
    client.create_credential(CredentialPlace.of_project(client.project), key, verify=False)
    for dataset in ("linked", "other"):
        link = m.DatasetLinkCreate(
            cloud="s3", storage_name=name, prefix="in", endpoint_url=s3_url, credential_id="key"
        )
        client.create_dataset(client.project, m.DatasetCreate(name=dataset, link=link))
    return name


@pytest.fixture(scope="module")
def kept(client: Any, tmp_path_factory: pytest.TempPathFactory) -> m.Dataset:
    root = tmp_path_factory.mktemp("kept")
    (root / "c.txt").write_text("gamma")
    snapshot = upload_folder(client, client.project, root, keep_name=False)
    body = m.DatasetCreate(name="kept", snapshot_id=snapshot.id)
    created: m.Dataset = client.create_dataset(client.project, body)
    return created


def test_job_sees_its_datasets_and_writes_beside_them(run: Any, bucket: str, kept: Any) -> None:
    job = run(
        python("""
            import os
            from pathlib import Path
            import periflow_sdk as pf
            root = Path("/workspace/data")
            (root / "new.txt").write_text("mine")
            (root / "a.txt").write_text("changed")
            data = pf.dataset("linked")
            print(data.path, [file.path for file in data.files], data.read(["a.txt"]))
            print(sorted(path.name for path in root.rglob("*")))
            print(pf.dataset("kept").path, pf.dataset("kept").version)
            print(os.environ["PERIFLOW_DATA_DIR"])
        """),
        data=[
            {"name": "linked", "mount_path": "/workspace/data"},
            {"name": "kept", "mount_path": "/workspace/kept"},
        ],
    )
    job.wait("success")
    assert job.log == [
        "/workspace/data ['a.txt', 'sub/b.txt'] [b'alpha']",
        "['a.txt', 'b.txt', 'new.txt', 'sub']",
        "/workspace/kept 1",
        "/workspace/data",
    ]


def test_streamed_dataset_is_read_by_those_who_name_it(run: Any, bucket: str, kept: Any) -> None:
    job = run(
        python("""
            import os
            import periflow_sdk as pf
            data = pf.dataset("linked")
            print(data.read(["a.txt", "sub/b.txt"]), data.fetch("a.txt").read_text())
            print(pf.dataset("kept").read(["c.txt"]))
            # What the control plane lists where the bucket's own list cannot be read.
            print(data._source._bucket._list_usable() == list(data.files))
            with data.fs.open(data.url + "/a.txt") as file:
                print(file.read())
            try:
                pf.dataset("other")
            except pf.PeriFlowError as error:
                print(type(error).__name__)
            print(os.path.exists("/workspace/data"), "PERIFLOW_DATA_DIR" in os.environ)
        """),
        data=[
            {"name": "linked", "mode": "stream", "mount_path": "/workspace/data"},
            {"name": "kept", "mode": "stream"},
        ],
    )
    job.wait("success")
    assert job.log == [
        "[b'alpha', b'beta'] alpha",
        "[b'gamma']",
        "True",
        "b'alpha'",
        "ForbiddenError",
        "False False",
    ]
    assert S3_SECRET not in "".join(job.events)


def test_jobs_share_one_copy_that_stays_while_one_runs(
    run: Any, server: Any, client: Any, until: Any, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("content\n")
    snapshot = upload_folder(client, client.project, tmp_path / "d", keep_name=False)
    client.create_dataset(client.project, m.DatasetCreate(name="both", snapshot_id=snapshot.id))
    command = f"cat /workspace/data/f; until test -e {tmp_path}/go; do sleep 0.05; done; cat f"
    data = [{"name": "both", "mount_path": "/workspace/data"}]
    jobs = [run(f"cd /workspace/data; {command}", data=data) for _ in range(2)]
    for job in jobs:
        job.wait_for_line("content")
    places = {(job.folder / "data" / "0").resolve() for job in jobs}
    cache = Cache(server.home / "cache")
    assert len(places) == 1 and places.pop().is_relative_to(cache.folder)
    jobs[0].kill_agent()
    cache.clear()
    unit = [unit for unit in cache.units() if (unit.folder / "data" / "f").exists()]
    assert len(unit) == 1
    (tmp_path / "go").touch()
    for job in jobs:
        job.wait("success")
        assert job.log == ["content", "content"]
    until(lambda: cache.clear() >= 0 and not (unit[0].folder / "data" / "f").exists())


def test_hub_that_cannot_be_reached_is_told_with_what_to_do(run: Any) -> None:
    job = run(
        "echo never",
        data=[{"name": "huggingface:imdb", "mount_path": "/workspace/data"}],
    )
    detail = job.wait("failed")
    assert "hub" in str(detail.events[-1].message) and "pf dataset upload" in job.story()
    assert job.log == []
