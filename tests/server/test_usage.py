"""Device hours by project, user and month."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from people import join_project

from periflow_sdk.errors import ForbiddenError, InvalidRequestError
from periflow_server.db.attempt import Attempt, Node
from periflow_server.db.base import Database
from periflow_server.db.job import Job, next_number

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

MAY = datetime(2024, 5, 31, 22, tzinfo=UTC)
JUNE = datetime(2024, 6, 1, 3, tzinfo=UTC)


def run(
    database: Database,
    user: Client,
    project: str,
    *spans: tuple[datetime, datetime | None],
    devices: int = 2,
) -> None:
    """A job of the past with an attempt for each span."""
    with database.write() as session:
        job = Job(
            project_id=project,
            number=next_number(session, project),
            name="past",
            status="success",
            vm="local-cpu",
            device="CPU",
            num_devices=devices,
            spec={},
            shell={},
            created_by=user.session.user.id,
        )
        session.add(job)
        session.flush()
        for number, (since, until) in enumerate(spans, start=1):
            attempt = Attempt(
                job_id=job.id,
                number=number,
                status="success",
                created_at=since,
                finished_at=until,
            )
            session.add(attempt)
            session.flush()
            held = list(range(devices))
            session.add(Node(attempt_id=attempt.id, rank=0, folder="x", devices=held))


def test_hours_are_summed_by_user_project_and_the_month_they_fell_in(
    server: ServerProcess, database: Database
) -> None:
    owner = server.client()
    member = join_project(server, owner, "developer")
    other = owner.create_project(owner.organization, "other").id
    run(database, owner, owner.project, (MAY, JUNE))
    run(database, member, owner.project, (MAY, MAY + timedelta(hours=1)), (JUNE, JUNE))
    run(database, member, owner.project, (JUNE, JUNE + timedelta(minutes=30)), devices=4)
    run(database, member, other, (JUNE, JUNE + timedelta(hours=2)), devices=1)
    usage = {
        (each.month, each.project, each.user): (each.device_hours, each.jobs)
        for each in owner.usage(owner.organization)
    }
    assert usage == {
        ("2024-05", "project", owner.username): (4.0, 1),
        ("2024-06", "project", owner.username): (6.0, 1),
        ("2024-05", "project", member.username): (2.0, 1),
        ("2024-06", "project", member.username): (2.0, 1),
        ("2024-06", "other", member.username): (2.0, 1),
    }


def test_months_bound_what_is_counted(server: ServerProcess, database: Database) -> None:
    owner = server.client()
    run(database, owner, owner.project, (MAY, JUNE))

    def hours(since: str | None, until: str | None) -> list[tuple[str, float]]:
        found = owner.usage(owner.organization, since=since, until=until)
        return [(each.month, each.device_hours) for each in found]

    assert hours("2024-05", "2024-05") == [("2024-05", 4.0)]
    assert hours("2024-06", None) == [("2024-06", 6.0)]
    assert hours(None, "2024-04") == []
    assert hours("2024-12", "2025-01") == []


def test_attempt_that_runs_counts_until_now(server: ServerProcess, database: Database) -> None:
    owner = server.client()
    since = datetime.now(UTC) - timedelta(hours=1)
    run(database, owner, owner.project, (since, None), devices=1)
    total = sum(each.device_hours for each in owner.usage(owner.organization))
    assert 1.0 <= total < 1.1


@pytest.mark.parametrize("month", ["May", "2024-13", "2024", "2024-05-01", "24-05", "0000-01"])
def test_what_is_no_month_is_refused(server: ServerProcess, month: str) -> None:
    owner = server.client()
    for bounds in ({"since": month}, {"until": month}):
        with pytest.raises(InvalidRequestError) as caught:
            owner.usage(owner.organization, **bounds)
        assert caught.value.code == "wrong_month"


def test_months_in_the_wrong_order_are_refused(server: ServerProcess) -> None:
    owner = server.client()
    with pytest.raises(InvalidRequestError) as caught:
        owner.usage(owner.organization, since="2024-06", until="2024-05")
    assert caught.value.code == "wrong_month"


def test_usage_is_for_owners_only(server: ServerProcess) -> None:
    owner = server.client()
    admin = join_project(server, owner, "admin")
    with pytest.raises(ForbiddenError):
        admin.usage(owner.organization)


def test_hours_of_somebody_who_left_stay_and_are_marked(
    server: ServerProcess, database: Database
) -> None:
    owner = server.client()
    member = join_project(server, owner, "developer")
    run(database, member, owner.project, (MAY, MAY + timedelta(hours=1)))
    assert [each.is_member for each in owner.usage(owner.organization)] == [True]
    owner.remove_organization_member(owner.organization, member.username)
    (left,) = owner.usage(owner.organization)
    assert (left.user, left.is_member, left.device_hours) == (member.username, False, 2.0)


def test_hours_of_a_deleted_project_stay(server: ServerProcess, database: Database) -> None:
    owner = server.client()
    run(database, owner, owner.project, (MAY, JUNE))
    before = owner.usage(owner.organization)
    owner.delete_project(owner.project)
    assert owner.usage(owner.organization) == before
    again = owner.create_project(owner.organization, "project")
    run(database, owner, again.id, (JUNE, JUNE + timedelta(hours=1)), devices=1)
    hours = {each.month: (each.device_hours, each.jobs) for each in owner.usage(owner.organization)}
    assert hours == {"2024-05": (4.0, 1), "2024-06": (7.0, 2)}
