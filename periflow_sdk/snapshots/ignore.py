"""What an upload leaves out: ignore files, caches, environments, and whatever looks secret."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from pathspec import GitIgnoreSpec

_ALWAYS = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".periflow",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".hypothesis",
        ".ipynb_checkpoints",
        ".tox",
        ".nox",
        ".DS_Store",
    }
)
_ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")
_SECRETS: tuple[tuple[str, str], ...] = (
    (".env", "environment file"),
    (".env.*", "environment file"),
    (".envrc", "environment file"),
    ("*.pem", "key file"),
    ("*.key", "key file"),
    ("*.p12", "key file"),
    ("*.pfx", "key file"),
    ("*.ppk", "key file"),
    ("*.keystore", "key file"),
    ("*.jks", "key file"),
    ("id_rsa*", "SSH key"),
    ("id_dsa*", "SSH key"),
    ("id_ecdsa*", "SSH key"),
    ("id_ed25519*", "SSH key"),
    (".ssh", "SSH keys"),
    (".gnupg", "GPG keys"),
    (".netrc", "stored passwords"),
    ("_netrc", "stored passwords"),
    (".git-credentials", "stored passwords"),
    (".pgpass", "stored passwords"),
    (".my.cnf", "stored passwords"),
    (".htpasswd", "stored passwords"),
    (".pypirc", "stored passwords"),
    (".npmrc", "stored tokens"),
    (".vault-token", "stored tokens"),
    (".aws", "cloud configuration"),
    (".azure", "cloud configuration"),
    (".gcloud", "cloud configuration"),
    (".config/gcloud", "cloud configuration"),
    (".kube", "cloud configuration"),
    (".boto", "cloud configuration"),
    (".s3cfg", "cloud configuration"),
    (".docker/config.json", "registry login"),
    (".kaggle", "stored tokens"),
    (".cache/huggingface/token", "stored tokens"),
    ("application_default_credentials.json", "cloud configuration"),
    ("service-account*.json", "cloud configuration"),
    ("service_account*.json", "cloud configuration"),
    ("*.tfstate", "cloud configuration"),
)
_SECRET_NAMES = frozenset(name for name, _ in _SECRETS if "*" not in name and "/" not in name)


@dataclass(frozen=True)
class LeftOut:
    """Something secret that was not taken. ``reason`` is a few words for the user."""

    path: str
    reason: str


@dataclass(frozen=True)
class IgnoreRules:
    """Which rules an upload follows; the default is what a workspace needs.

    Args:
        files: Names of ignore files in gitignore syntax, read in every folder. Where two of one
            folder disagree, the later named decides.
        caches: Leave out version control, caches and Python environments.
        secrets: Leave out what looks like keys, passwords and cloud configuration.
    """

    files: tuple[str, ...] = (".gitignore", ".pfignore")
    caches: bool = True
    secrets: bool = True


@dataclass
class IgnoreScope:
    """The rules as they stand in one folder of a walk, its parents' ignore files included."""

    rules: IgnoreRules
    folder: str = ""
    specs: tuple[tuple[str, GitIgnoreSpec], ...] = field(default=())

    def enter(self, folder: str, disk: Path, names: Sequence[str]) -> IgnoreScope:
        """The scope inside a folder.

        Args:
            folder: Its path below the source, "" for the source itself.
            disk: Where it lies.
            names: What it holds.
        """
        found = [name for name in self.rules.files if name in names]
        specs = [(folder, _read_spec(disk / name)) for name in found]
        return IgnoreScope(self.rules, folder, (*self.specs, *specs))

    def secret(self, path: str) -> LeftOut | None:
        """Why this path may not be sent because it looks secret, or None."""
        if not self.rules.secrets:
            return None
        name = path.rpartition("/")[2].lower()
        for pattern, reason in _SECRETS:
            if "/" in pattern:
                if f"/{path.lower()}".endswith(f"/{pattern}"):
                    return LeftOut(path, reason)
            elif name == pattern if pattern in _SECRET_NAMES else fnmatchcase(name, pattern):
                return LeftOut(path, reason)
        return None

    def ignores(self, path: str, disk: Path, *, is_folder: bool) -> bool:
        """Whether caches or ignore files leave this path out."""
        if self.rules.caches and _is_clutter(path, disk, is_folder=is_folder):
            return True
        for base, spec in reversed(self.specs):
            inner = path[len(base) + 1 :] if base else path
            verdict = spec.check_file(inner + "/" if is_folder else inner).include
            if verdict is not None:
                return verdict
        return False


def _is_clutter(path: str, disk: Path, *, is_folder: bool) -> bool:
    name = path.rpartition("/")[2]
    if name in _ALWAYS or (not is_folder and name.endswith((".pyc", ".pyo"))):
        return True
    return is_folder and any((disk / mark).exists() for mark in _ENVIRONMENT_MARKS)


def _read_spec(path: Path) -> GitIgnoreSpec:
    if not path.is_file():
        return GitIgnoreSpec.from_lines([])
    text = os.fsdecode(path.read_bytes())
    return GitIgnoreSpec.from_lines(text.splitlines())
