"""The three distributions as a stranger gets them: built, pinned to each other, installed."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = {
    "periflow_sdk": ROOT,
    "periflow-cli": ROOT / "cli",
    "periflow-server": ROOT / "server",
}

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    built = {}
    for name, source in DISTRIBUTIONS.items():
        target = folder / name
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", target, source],
            check=True,
            capture_output=True,
        )
        (built[name],) = target.glob("*.whl")
    return built


def _metadata(wheel: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        message = Parser().parsestr(archive.read(name).decode())
    return {key: message.get_all(key, []) for key in set(message)}


def test_versions_are_equal_final_and_newer_than_the_strangers_packages(
    wheels: dict[str, Path],
) -> None:
    versions = {Version(_metadata(wheel)["Version"][0]) for wheel in wheels.values()}
    (version,) = versions
    assert version >= Version("0.2.0")
    assert not version.is_prerelease


def test_our_distributions_pin_each_other_exactly(wheels: dict[str, Path]) -> None:
    version = _metadata(wheels["periflow_sdk"])["Version"][0]
    ours = {"periflow-sdk", "periflow-cli", "periflow-server"}
    pins: dict[str, set[str]] = {}
    for name, wheel in wheels.items():
        requirements = map(Requirement, _metadata(wheel).get("Requires-Dist", []))
        pins[name] = {
            f"{r.name.replace('_', '-')}{r.specifier}"
            for r in requirements
            if r.name.replace("_", "-") in ours
        }
    assert pins == {
        "periflow_sdk": set(),
        "periflow-server": {f"periflow-sdk=={version}"},
        "periflow-cli": {f"periflow-sdk=={version}", f"periflow-server=={version}"},
    }


def test_the_sdk_core_does_not_require_torch(wheels: dict[str, Path]) -> None:
    requirements = map(Requirement, _metadata(wheels["periflow_sdk"])["Requires-Dist"])
    assert "torch" not in {r.name for r in requirements if "extra" not in str(r.marker)}


def test_extras_of_the_sdk_are_the_promised_ones(wheels: dict[str, Path]) -> None:
    extras = set(_metadata(wheels["periflow_sdk"])["Provides-Extra"])
    assert extras >= {
        "lightning",
        "transformers",
        "accelerate",
        "s3",
        "gcs",
        "azure",
        "wandb",
        "gpu",
    }


def test_wheels_work_in_an_empty_environment(wheels: dict[str, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "env")
    binaries = tmp_path / "env" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", binaries / "python"]
    subprocess.run(
        [*pip, "install", "-q", "--disable-pip-version-check", *wheels.values()],
        check=True,
        capture_output=True,
    )
    home = tmp_path / "home"
    environment = {"PATH": f"{binaries}:/usr/bin:/bin", "PERIFLOW_HOME": str(home)}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "0.2" in run("pf", "version")
    run("python", "-c", "import periflow_sdk as pf; pf.init(); pf.start_step(); pf.end_step()")
    run("pf", "server", "start")
    try:
        assert str(home) in run("pf", "server", "status", "--json")
    finally:
        run("pf", "server", "stop")
