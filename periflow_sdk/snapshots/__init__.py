"""Snapshots: folders stored as a manifest and content-addressed chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from periflow_sdk._lazy import lazy

if TYPE_CHECKING:
    from periflow_sdk.snapshots.download import download_snapshot, read_manifest
    from periflow_sdk.snapshots.ignore import IgnoreRules, LeftOut
    from periflow_sdk.snapshots.manifest import Manifest
    from periflow_sdk.snapshots.progress import Progress
    from periflow_sdk.snapshots.scan import Plan, plan_folder
    from periflow_sdk.snapshots.upload import upload_files, upload_folder

__all__ = [
    "IgnoreRules",
    "LeftOut",
    "Manifest",
    "Plan",
    "Progress",
    "download_snapshot",
    "plan_folder",
    "read_manifest",
    "upload_files",
    "upload_folder",
]

# Hashing, HTTP and pathspec would burden whoever needs one name.
__getattr__ = lazy(
    __name__,
    {
        "IgnoreRules": "ignore",
        "LeftOut": "ignore",
        "Manifest": "manifest",
        "Plan": "scan",
        "Progress": "progress",
        "download_snapshot": "download",
        "plan_folder": "scan",
        "read_manifest": "download",
        "upload_files": "upload",
        "upload_folder": "upload",
    },
)
