"""The schema: made at once or by migrations, and the two agree."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, inspect, text

from periflow_sdk.errors import UsageError
from periflow_server.db.base import Database
from periflow_server.db.job import next_number
from periflow_server.db.schema import current_revision, import_tables, migrate, prepare_schema
from periflow_server.migrations import HEAD, REVISIONS

if TYPE_CHECKING:
    from conftest import ServerProcess

# Of SQLite's, SQLAlchemy cannot say what indexes of expressions are of.
pytestmark = pytest.mark.filterwarnings("ignore:Skipped unsupported reflection")


@pytest.fixture
def empty(new_database_url: Callable[[], str]) -> Iterator[Database]:
    database = Database(new_database_url())
    yield database
    database.close()


def structure(database: Database) -> dict[str, Any]:
    """Every table with its columns, keys, references and indexes."""
    inspector = inspect(database.engine)

    def ordered(items: list[Any]) -> list[str]:
        return sorted(repr(sorted(item.items(), key=str)) for item in items)

    return {
        table: {
            "columns": ordered(
                [{**column, "type": str(column["type"])} for column in inspector.get_columns(table)]
            ),
            "primary key": inspector.get_pk_constraint(table),
            "foreign keys": ordered(inspector.get_foreign_keys(table)),
            "unique": ordered(inspector.get_unique_constraints(table)),
            "indexes": ordered(inspector.get_indexes(table)),
        }
        for table in inspector.get_table_names()
    }


def test_migrations_give_the_tables_of_the_code(
    empty: Database, new_database_url: Callable[[], str]
) -> None:
    migrate(empty)
    made = Database(new_database_url())
    prepare_schema(made)
    try:
        expected = structure(made)
        assert len(expected) > 15
        assert structure(empty) == expected
        assert current_revision(empty) == current_revision(made) == HEAD
    finally:
        made.close()


def migrations() -> Config:
    """What alembic has to know to find the server's."""
    config = Config()
    config.set_main_option("script_location", "periflow_server:migrations")
    return config


def test_list_of_revisions_is_that_of_the_files() -> None:
    config = migrations()
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == HEAD
    found = [script.revision for script in scripts.walk_revisions()]
    assert list(reversed(found)) == list(REVISIONS)


def test_every_migration_can_be_taken_back(empty: Database) -> None:
    migrate(empty)
    config = migrations()
    with empty.migration() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(empty.engine).get_table_names() == ["alembic_version"]


def test_jobs_of_a_migrated_database_are_numbered_on(empty: Database) -> None:
    config = migrations()
    with empty.migration() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0008")
    with empty.engine.begin() as connection:
        # All that is needed of what these refer to.
        _insert(connection, "users", id="ada")
        _insert(connection, "organizations", id="org")
        for project, numbers in (("busy", (1, 7, 3)), ("idle", ())):
            _insert(connection, "projects", id=project, organization_id="org", name=project)
            for number in numbers:
                fields = {"id": f"job{number}", "project_id": project, "created_by": "ada"}
                _insert(connection, "jobs", **fields, number=number)
    migrate(empty)
    with empty.write() as session:
        assert [next_number(session, project) for project in ("busy", "idle")] == [8, 1]


def test_names_that_differ_by_case_only_are_named_before_anything_changes(empty: Database) -> None:
    config = migrations()
    with empty.migration() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0009")
    with empty.engine.begin() as connection:
        for name in ("Lab", "lab", "other"):
            _insert(connection, "organizations", id=name, name=name)
    with pytest.raises(UsageError, match=r"Lab and lab|lab and Lab"):
        migrate(empty)
    assert current_revision(empty) == "0009"


def _insert(connection: Connection, noun: str, **fields: object) -> None:
    """Add a row; columns that need a value and are given none get one of their type."""
    table = Table(noun, MetaData(), autoload_with=connection)
    others: dict[type, object] = {object: [], datetime: datetime.now(UTC)}
    for column in table.columns:
        if not column.nullable and column.server_default is None:
            kind = column.type.python_type
            fields.setdefault(column.name, others[kind] if kind in others else kind())
    connection.execute(table.insert().values(fields))


def test_server_starts_on_a_database_that_migrations_made(
    empty: Database, start_server: Callable[..., ServerProcess]
) -> None:
    migrate(empty)
    server = start_server(PERIFLOW_SERVER_DATABASE_URL=empty.url)
    assert server.client().me()


def test_database_of_a_newer_version_is_refused_untouched(empty: Database) -> None:
    prepare_schema(empty)
    with empty.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UsageError, match="9999"):
        prepare_schema(empty)
    assert current_revision(empty) == "9999"


def test_server_says_why_it_does_not_start_on_a_newer_database(
    own_server: ServerProcess,
) -> None:
    own_server.stop()
    database = Database(own_server.database_url)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    ended = subprocess.run(
        own_server.command(),
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, **own_server.variables},
    )
    assert ended.returncode == 2
    assert "9999" in ended.stderr
    assert "Install the newest PeriFlow" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_database_of_something_else_is_refused(empty: Database) -> None:
    with empty.write() as session:
        session.execute(text("CREATE TABLE recipes (id INTEGER)"))
    with pytest.raises(UsageError):
        prepare_schema(empty)


def test_failed_migration_changes_nothing(empty: Database) -> None:
    import_tables()
    prepare_schema(empty)
    before = structure(empty)
    with pytest.raises(ZeroDivisionError), empty.migration() as connection:
        connection.execute(text("DROP TABLE tokens"))
        raise ZeroDivisionError
    assert structure(empty) == before
