"""Migrations. After a change of tables, in `server/`: `alembic revision --autogenerate -m WHAT`,
clean the new file by hand, and add its revision here. A released migration is never edited.
"""

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011")
HEAD = REVISIONS[-1]
