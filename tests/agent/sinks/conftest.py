"""A server whose W&B is a service of these tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wandb_server import WandbServer, serve_wandb

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.credential import CredentialPlace

KEY = "0123456789abcdef" * 2 + "SECRETKEY"


@pytest.fixture(scope="module")
def wandb() -> Iterator[WandbServer]:
    """The service."""
    with serve_wandb() as service:
        yield service


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any, server_class: Any, wandb: WandbServer) -> Iterator[Any]:
    """One server for the module, told where W&B is."""
    home = tmp_path_factory.mktemp("server") / "home"
    process = server_class(home, {"PERIFLOW_SERVER_WANDB_URL": wandb.url})
    process.start()
    yield process
    process.close()


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    """A user with a W&B credential named ``wb``."""
    user = server.client()
    body = m.WandbCredentialCreate.model_validate({"name": "wb", "api_key": KEY})
    user.create_credential(CredentialPlace.of_project(user.project), body, verify=False)
    return user


@pytest.fixture
def run(
    server: Any, client: Any, wandb: WandbServer, run_on: Callable[..., Any]
) -> Iterator[Callable[..., Any]]:
    """Runs a command as a job; W&B does well at first."""
    wandb.behaviour = "well"
    yield lambda command, **options: run_on(server, command, client, **options)
    wandb.behaviour = "well"
