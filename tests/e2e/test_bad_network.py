"""Students behind a bad network, and jobs, with a bucket: all arrives, and goes past the server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cloud import S3_KEY, S3_SECRET, fill_s3
from faulty_proxy import FaultyProxy, faulty_proxy
from seaweed import free_ports

if TYPE_CHECKING:
    from conftest import ServerProcess

BUCKET = "students"
OF_STORES = ("drop", "500", "truncate", "late drop", "503", "delay", "429")
OF_SERVERS = ("drop", "503", "late drop", "delay", "429", "truncate")
JOB = """\
vm: local-cpu
num_devices: 1
job_setting:
  type: custom
  docker:
    image: none
    command: python /workspace/code/main.py
checkpoint:
  output_checkpoint_dir: /workspace/ckpt
data:
  name: {name}
  mount_path: /workspace/data
"""
SCRIPT = """\
import os
from pathlib import Path
import periflow_sdk as pf

pf.init(total_train_steps=1)
with pf.train_step():
    learned = Path("/workspace/data/0.bin").read_bytes()[::-1]
    Path(os.environ["CKPT_DIR"], "weights.bin").write_bytes(learned)
pf.upload_checkpoint()
"""


@pytest.fixture(scope="module")
def bad_store(s3_url: str) -> Iterator[FaultyProxy]:
    fill_s3(s3_url, BUCKET, {})
    with faulty_proxy(s3_url, *OF_STORES, rate=0.1, seed=5) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def road(
    bad_store: FaultyProxy,
    s3_url: str,
    server_class: type[ServerProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[FaultyProxy]:
    """The way to a server with a bucket, for its clients and for the agents of its jobs."""
    (port,) = free_ports(1)
    with faulty_proxy(f"http://127.0.0.1:{port}", *OF_SERVERS, rate=0.05, seed=6) as proxy:
        variables = {
            "PERIFLOW_SERVER_STORAGE_URL": f"s3://{BUCKET}/files",
            "PERIFLOW_SERVER_STORAGE_ENDPOINT": s3_url,
            "PERIFLOW_SERVER_STORAGE_PUBLIC_ENDPOINT": bad_store.url,
            "PERIFLOW_SERVER_STORAGE_KEY_ID": S3_KEY,
            "PERIFLOW_SERVER_STORAGE_SECRET": S3_SECRET,
            "PERIFLOW_SERVER_PUBLIC_URL": proxy.url,
            "PERIFLOW_SERVER_ORG_APPROVAL": "auto",
            "PERIFLOW_SERVER_EXECUTOR": "local",
        }

        class Server(server_class):  # type: ignore[misc, valid-type]
            def words(self) -> list[str]:
                return ["serve", "--port", str(port)]

        server = Server(tmp_path_factory.mktemp("server"), variables, is_embedded=False)
        server.start()
        with proxy.behaving():
            server.client("ada")
        yield proxy
        server.close()


@pytest.fixture
def student(newcomer, road: FaultyProxy):
    newcomer.environment |= {
        "PERIFLOW_URL": road.url,
        "PERIFLOW_ORG": "ada-org",
        "PERIFLOW_PROJECT": "project",
    }
    newcomer.pf("login", "--username", "ada", "--password-stdin", stdin="correct horse battery")
    return newcomer


def _make_files(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.bin").write_bytes(os.urandom(4_500_000 + number))
        (folder / f"{number}.json").write_text(f'{{"label": {number}}}')
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_student_uploads_a_folder_over_a_bad_network_and_it_arrives_whole(
    student, bad_store: FaultyProxy, road: FaultyProxy
) -> None:
    source = _make_files(student.folder / "photos", 12)
    words = ("dataset", "upload", "-n", "photos", "-p", f"{source}/")
    with bad_store.behaving("delay", times=1000):
        upload = student.start(*words)
        student.wait_until(lambda: len(bad_store.accepted) >= 3 or upload.poll() is not None)
        upload.kill()
        upload.communicate()
    before = set(bad_store.accepted)
    assert len(before) < 12, "the upload was over before it was killed"
    assert student.try_pf("dataset", "view", "photos").returncode == 3

    bad_store.accepted.clear()
    student.pf(*words)
    assert not before & set(bad_store.accepted), "what had arrived was sent again"
    student.pf("dataset", "download", "photos", "-d", student.folder / "back")
    assert _contents(student.folder / "back") == _contents(source)
    assert road.bytes_passed < 1_000_000


def test_a_job_reads_and_saves_past_the_server(
    student, bad_store: FaultyProxy, road: FaultyProxy
) -> None:
    source = _make_files(student.folder / "few", 3)
    student.pf("dataset", "upload", "-n", "few", "-p", f"{source}/")
    code = student.folder / "code"
    code.mkdir()
    (code / "main.py").write_text(SCRIPT)
    (student.folder / "job.yml").write_text(JOB.format(name="few"))
    passed, carried = road.bytes_passed, bad_store.bytes_passed
    job = student.json("job", "run", "-f", student.folder / "job.yml", "-d", code)
    job = student.wait_for_job(job["number"])
    assert job["status"] == "success", job
    (checkpoint,) = job["checkpoints"]
    student.pf("checkpoint", "download", checkpoint["id"], "-d", student.folder / "mine")
    learned = (source / "0.bin").read_bytes()[::-1]
    assert (student.folder / "mine" / "weights.bin").read_bytes() == learned
    assert bad_store.bytes_passed - carried > 5 * len(learned)  # 3 files in, one out and back
    assert road.bytes_passed - passed < 1_000_000
