"""Deleted projects and organizations are removed piece by piece, files first."""

from __future__ import annotations

import shutil
from pathlib import Path

from periflow_server.db import deletion as db
from periflow_server.db.base import Database
from periflow_server.storage.key import chunk_key, log_key, manifest_key
from periflow_server.storage.store import Store


def remove_deleted(database: Database, store: Store, jobs_dir: Path) -> int:
    """Remove what is left of deleted projects and organizations; how many projects.

    Each job goes in a transaction of its own, so that others can write in between. What a crash
    leaves over, or a job that slipped in and runs, is removed the next time.

    Args:
        jobs_dir: The folder of the node folders of this server.
    """
    with database.read() as session:
        projects = db.deleted_projects(session)
    for project_id in projects:
        while _remove_job(database, store, jobs_dir, project_id):
            pass
        for key in (chunk_key(project_id, ""), manifest_key(project_id, "")):
            store.delete_all(key)
        with database.write() as session:
            db.remove_project(session, project_id)
    with database.write() as session:
        db.remove_deleted_organizations(session)
    return len(projects)


def _remove_job(database: Database, store: Store, jobs_dir: Path, project_id: str) -> bool:
    with database.write() as session:
        removed = db.remove_job(session, project_id)
        if removed is None:
            return False
        job_id, attempts = removed
        for attempt_id in attempts:
            store.delete_all(log_key(attempt_id))
        shutil.rmtree(jobs_dir / job_id, ignore_errors=True)
    return True
