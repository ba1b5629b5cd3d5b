"""Everything the server can be told, read once from ``PERIFLOW_SERVER_*`` or the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from periflow_sdk.api.size import parse_size
from periflow_sdk.errors import InvalidRequestError, UsageError
from periflow_server.embedded import OLD_KEYS

_PREFIX = "PERIFLOW_SERVER_"


def _size(value: Any) -> Any:
    try:
        return parse_size(value) if isinstance(value, str) else value
    except InvalidRequestError:
        raise PydanticCustomError("size", "it is no size like 500GB or 2TB") from None


class Settings(BaseSettings):
    """The settings of one server.

    ``key`` signs URLs and proves the embedded server's identity; it comes from ``SECRET_KEY`` or
    the key file. ``port`` is the one really listened on once the server runs. The ``local``
    executor runs jobs as the server's own user: only an embedded server has it unasked; so with
    ``private_addresses``, whether addresses that users give may be those of this machine's network.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None
    data_dir: Path = Path("periflow-server")
    database_url: str | None = Field(default=None, repr=False)
    database_connections: int = Field(default=20, ge=2)
    storage_url: str | None = None
    storage_endpoint: str | None = None
    storage_public_endpoint: str | None = None
    storage_region: str | None = None
    storage_key_id: str | None = None
    storage_secret: str | None = Field(default=None, repr=False)
    storage_key_file: Path | None = None
    project_quota: Annotated[int | None, BeforeValidator(_size)] = None
    secret_key: str | None = Field(default=None, repr=False, min_length=32)
    old_secret_keys: str | None = Field(default=None, repr=False)
    org_approval: Literal["manual", "auto"] = "manual"
    executor: Literal["local", "none"] = "none"
    embedded: bool = False
    access_token_seconds: int = 3600
    refresh_token_seconds: int = 30 * 24 * 3600
    refresh_leeway_seconds: int = 20
    signup_seconds: int = 1800
    signup_attempts: int = 5
    invitation_seconds: int = 7 * 24 * 3600
    smtp_url: str | None = Field(default=None, repr=False)
    mail_from: str | None = None
    mail_backoff_seconds: float = 5
    rate_factor: float = Field(default=1, ge=0)
    url_seconds: int = 3600
    lease_seconds: int = 24 * 3600
    foreign_lease_seconds: float = 600
    collect_seconds: float = 3600
    private_addresses: bool = False
    slack_url: str = "https://slack.com/api"
    slack_hooks_url: str = "https://hooks.slack.com/"
    wandb_url: str = "https://api.wandb.ai"
    s3_url: str | None = None
    azure_blob_url: str = "https://{account}.blob.core.windows.net"
    gcs_url: str = "https://storage.googleapis.com"
    google_token_url: str = "https://oauth2.googleapis.com/token"
    notify_backoff_seconds: float = 5

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
        if "private_addresses" not in settings.model_fields_set:
            settings.private_addresses = True
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
        return _key_bytes(self.secret_key)

    @property
    def old_keys(self) -> list[bytes]:
        """The secrets of before, or of a server that is newer, that sealed texts are opened with.

        Commas or white space separate them in ``OLD_SECRET_KEYS``; a rotation that was cut off
        has left some in the data folder.
        """
        kept = self.data_dir / OLD_KEYS
        text = f"{self.old_secret_keys or ''} {kept.read_text() if kept.exists() else ''}"
        return [_key_bytes(word) for word in text.replace(",", " ").split()]

    @property
    def database(self) -> str:
        """The SQLAlchemy address of the database."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'periflow.db'}"

    @property
    def storage_dir(self) -> Path | None:
        """The folder of the store; None when it is not one."""
        if self.storage_url is None:
            return self.data_dir.absolute() / "storage"
        path = self.storage_url.removeprefix("file://")
        return Path(path) if path != self.storage_url and path.startswith("/") else None

    @property
    def mail_sender(self) -> str:
        """Whom mail comes from: ``MAIL_FROM``, or periflow@ the host of the server."""
        host = urlsplit(self.url).hostname or "localhost"
        return self.mail_from or f"PeriFlow <periflow@{host}>"

    @property
    def outbox_dir(self) -> Path:
        """Where mail is put when there is no mail server."""
        return self.data_dir.absolute() / "outbox"


def _key_bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return text.encode()
