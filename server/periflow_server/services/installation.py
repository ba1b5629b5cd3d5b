"""Several servers on one database: they need one key and one store."""

from __future__ import annotations

from periflow_sdk.errors import UsageError
from periflow_server.db.base import Database, Session, new_id
from periflow_server.db.installation import trait
from periflow_server.services.vault import key_id
from periflow_server.settings import Settings
from periflow_server.storage.opening import STORE_ID
from periflow_server.storage.store import Store


def join(database: Database, store: Store, settings: Settings) -> None:
    """Make sure that this server has the key and the store of the others on its database.

    Raises:
        UsageError: it has not. It could neither open their secrets, nor answer to the URLs they
            sign, nor find the chunks they keep.
    """
    with database.write() as session:
        agree_on_key(session, settings)
        _compare_store(session, store)


def agree_on_key(session: Session, settings: Settings) -> None:
    """Make the key of these settings that of the database, which has it or one before it.

    Raises:
        UsageError: the database has another key.
    """
    own = key_id(settings.key)
    known = trait(session, "key")
    if known.value not in ("", own, *map(key_id, settings.old_keys)):
        raise UsageError(
            "The servers on this database have another secret key.",
            hint="Give all of them the same PERIFLOW_SERVER_SECRET_KEY; while you change it, "
            "name the other one in PERIFLOW_SERVER_OLD_SECRET_KEYS.",
        )
    known.value = own


def _compare_store(session: Session, store: Store) -> None:
    known = trait(session, "store")
    try:
        own = store.get_bytes(STORE_ID).decode()
    except FileNotFoundError:
        own = ""
    if not known.value:
        known.value = own or new_id()
        if not own:
            store.put_bytes(STORE_ID, known.value.encode())
    elif own != known.value:
        raise UsageError(
            "The servers on this database keep their files in another store.",
            hint="Give all of them the same PERIFLOW_SERVER_STORAGE_URL, say file:///srv/periflow.",
        )
