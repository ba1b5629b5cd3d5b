"""VM types."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import Db, Page, project_access
from periflow_server.services import vm as service
from periflow_server.services.access import ProjectAccess

router = APIRouter(prefix=PREFIX + "/projects/{project}/vms", tags=["vms"])


@router.get("")
def list_vms(
    access: Annotated[ProjectAccess, project_access(Action.VM_READ)], database: Db
) -> Page[m.VmType]:
    """The machine shapes jobs can ask for, and what is free of each."""
    with database.read() as session:
        return Page(items=service.vm_types(session))
