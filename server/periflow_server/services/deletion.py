"""What is deleted is removed piece by piece, files first."""

from __future__ import annotations

from pathlib import Path

from periflow_server.db import deletion as db
from periflow_server.db.base import Database, utcnow
from periflow_server.executors.local import remove_nodes
from periflow_server.storage.key import chunk_key, log_key, manifest_key
from periflow_server.storage.store import Store


def remove_deleted(database: Database, store: Store, jobs_dir: Path, site: str) -> None:
    """Remove what is left of deleted jobs, projects and organizations.

    Each job goes in a transaction of its own, so that others can write in between. What a crash
    leaves over, or a job that slipped in and runs, is removed the next time. Chunks and manifests
    of a deleted job are left to the collection: others may have them too.

    Args:
        jobs_dir: The folder of the node folders of this server.
        site: The name by which nodes remember this server.
    """
    with database.read() as session:
        projects = db.deleted_projects(session)
    while _remove_job(database, store, jobs_dir, site):
        pass
    for project_id in projects:
        for key in (chunk_key(project_id, ""), manifest_key(project_id, "")):
            store.delete_all(key)
        with database.write() as session:
            db.remove_project(session, project_id)
    with database.write() as session:
        db.remove_deleted_organizations(session)


def _remove_job(database: Database, store: Store, jobs_dir: Path, site: str) -> bool:
    with database.write() as session:
        removed = db.remove_job(session, site, utcnow())
        if removed is None:
            return False
        job_id, attempts = removed
        for attempt_id in attempts:
            store.delete_all(log_key(attempt_id))
        remove_nodes(jobs_dir / job_id)
    return True
