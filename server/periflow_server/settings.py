"""Everything the server can be told, read once from ``PERIFLOW_SERVER_*`` or the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from periflow_sdk.errors import UsageError

_PREFIX = "PERIFLOW_SERVER_"


class Settings(BaseSettings):
    """The settings of one server.

    ``key`` signs URLs and proves the embedded server's identity; it comes from ``SECRET_KEY`` or
    the key file. ``port`` is the one really listened on once the server runs. The ``local``
    executor runs jobs as the server's own user: only an embedded server has it unasked.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None
    data_dir: Path = Path("periflow-server")
    database_url: str | None = None
    storage_url: str | None = None
    secret_key: str | None = Field(default=None, repr=False, min_length=32)
    org_approval: Literal["manual", "auto"] = "manual"
    executor: Literal["local", "none"] = "none"
    embedded: bool = False
    access_token_seconds: int = 3600
    refresh_token_seconds: int = 30 * 24 * 3600
    refresh_leeway_seconds: int = 20
    signup_seconds: int = 1800
    signup_attempts: int = 5
    url_seconds: int = 3600
    lease_seconds: int = 24 * 3600
    attached_lease_seconds: float = 600
    collect_seconds: float = 3600

    @classmethod
    def read(cls, **given: Any) -> Settings:
        """The settings given, then those of the environment, then the defaults.

        Raises:
            UsageError: one of them is wrong; names the variable.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            name = "_".join(str(part) for part in first["loc"]).upper()
            raise UsageError(
                f"{_PREFIX}{name} is wrong: {first['msg']}.", hint="Correct it or leave it out."
            ) from None

    @classmethod
    def for_embedded(cls, data_dir: Path, port: int, key: str) -> Settings:
        """The settings of an embedded server: what nobody has set suits its one user."""
        settings = cls.read(
            embedded=True, host="127.0.0.1", port=port, data_dir=data_dir, secret_key=key
        )
        if "org_approval" not in settings.model_fields_set:
            settings.org_approval = "auto"
        if "executor" not in settings.model_fields_set:
            settings.executor = "local"
        return settings

    @property
    def url(self) -> str:
        """Where the server is reached: ``PUBLIC_URL``, or its own address."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def key(self) -> bytes:
        """The secret all signatures derive from: hex is taken as bytes, other text as it is."""
        if not self.secret_key:
            raise UsageError("The server has no key.", hint=f"Set {_PREFIX}SECRET_KEY.")
        try:
            return bytes.fromhex(self.secret_key)
        except ValueError:
            return self.secret_key.encode()

    @property
    def database(self) -> str:
        """The SQLAlchemy address of the database."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'periflow.db'}"

    @property
    def storage_dir(self) -> Path:
        """The folder of the store."""
        if self.storage_url and self.storage_url.startswith("file://"):
            return Path(self.storage_url.removeprefix("file://"))
        return self.data_dir.absolute() / "storage"

    @property
    def outbox_dir(self) -> Path:
        """Where mail is put when there is no mail server."""
        return self.data_dir.absolute() / "outbox"
