"""Credentials in jobs: named in the file, handed to the agent alone, and each use noted."""

from __future__ import annotations

from typing import Any

import pytest

from periflow_sdk.agent.credential import take_credentials
from periflow_sdk.api import models as m
from periflow_sdk.api.calls.credential import CredentialPlace
from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.errors import ApiError, ConflictError, InvalidRequestError, NotFoundError

SECRET = "for-the-agent-alone"


def place_of(desk: Any) -> CredentialPlace:
    return CredentialPlace.of_project(desk.project)


def keep(desk: Any, type: Any, name: str, **values: str) -> m.Credential:
    body = m.CREDENTIAL_BODIES[type].model_validate({"name": name, **values})
    created: m.Credential = desk.api.create_credential(place_of(desk), body, verify=False)
    return created


def docker(credential: str, image: str = "team/trainer") -> dict[str, Any]:
    return {"docker": {"image": image, "command": "true", "credential": credential}}


def refusal(desk: Any, kind: type[ApiError], **changes: Any) -> str:
    with pytest.raises(kind) as caught:
        desk.submit(**changes)
    assert caught.value.hint
    assert SECRET not in caught.value.message
    return caught.value.code


def test_agent_gets_what_the_job_names_until_its_command_starts(desk: Any) -> None:
    hub = keep(desk, "docker", "hub", username="ada", password=SECRET)
    wandb = keep(desk, "wandb", "metrics", api_key=SECRET)
    keep(desk, "wandb", "not-named", api_key=SECRET)
    plugin = {"wandb": {"credential_id": wandb.id}}
    job = desk.submit(job_setting=docker("hub"), plugin=plugin)
    api = desk.agent(job).api
    for _ in range(2):  # the first answer may have been lost
        taken = api.job_credentials().credentials
        assert [(each.use, each.id, each.name) for each in taken] == [
            ("docker", hub.id, "hub"),
            ("wandb", wandb.id, "metrics"),
        ]
    values = {name: value.get_secret_value() for name, value in taken[0].values.items()}
    assert values == {"username": "ada", "password": SECRET, "registry": "docker.io"}
    assert SECRET not in repr(taken)
    api.close_credentials()
    api.close_credentials()
    with pytest.raises(ConflictError) as caught:
        api.job_credentials()
    assert caught.value.code == "credentials_closed"
    assert desk.api.credential(place_of(desk), "hub").last_used_at is not None


def test_job_keeps_the_credential_it_was_given_whatever_its_name_is_later(desk: Any) -> None:
    hub = keep(desk, "docker", "hub", username="ada", password=SECRET)
    job = desk.submit(job_setting=docker("hub"))
    assert desk.job(job.number).spec["job_setting"]["docker"]["credential_id"] == hub.id
    desk.api.update_credential(place_of(desk), "hub", m.CredentialUpdate(name="old-hub"))
    keep(desk, "docker", "hub", username="eve", password="another")
    (taken,) = desk.agent(job).api.job_credentials().credentials
    assert (taken.id, taken.name) == (hub.id, "old-hub")


def test_job_that_names_what_does_not_fit_is_refused_before_it_waits(desk: Any) -> None:
    keep(desk, "wandb", "metrics", api_key=SECRET)
    keep(desk, "docker", "own", username="ada", password=SECRET, registry="registry.example:5000")
    missing = {"job_setting": docker("nobody")}
    assert refusal(desk, NotFoundError, **missing) == "credential_not_found"
    other_type = {"job_setting": docker("metrics")}
    assert refusal(desk, InvalidRequestError, **other_type) == "credential_type"
    # Else a job could send the password to any registry that its file names.
    for image in ("team/trainer", "evil.example/team/trainer", "registry.example/trainer"):
        elsewhere = {"job_setting": docker("own", image)}
        assert refusal(desk, InvalidRequestError, **elsewhere) == "credential_registry"
    assert desk.submit(job_setting=docker("own", "registry.example:5000/team/trainer"))
    assert len(desk.api.jobs(desk.project)) == 1


def test_agents_get_nothing_of_slack_and_nothing_unnamed(desk: Any) -> None:
    keep(desk, "slack", "team", token=SECRET)
    plugin = {"slack": {"credential": "team", "channel": "#train"}}
    for changes in ({"plugin": plugin}, {}):
        job = desk.submit(**changes)
        assert desk.agent(job).api.job_credentials().credentials == []


def test_deletion_tells_which_jobs_need_it_and_these_are_told_that_it_is_gone(desk: Any) -> None:
    keep(desk, "wandb", "metrics", api_key=SECRET)
    job = desk.submit(name="train", plugin={"wandb": {"credential": "metrics"}})
    (use,) = desk.api.credential(place_of(desk), "metrics").used_by
    assert (use.kind, use.name) == ("job", f"{job.number} (train)")
    with pytest.raises(ConflictError) as caught:
        desk.api.delete_credential(place_of(desk), "metrics")
    assert caught.value.code == "credential_in_use"
    assert f"job {job.number} (train)" in caught.value.message
    agent = desk.agent(job).api
    desk.api.delete_credential(place_of(desk), "metrics", force=True)
    with pytest.raises(NotFoundError) as gone:
        agent.job_credentials()
    assert gone.value.code == "credential_not_found"


def test_ended_job_needs_no_credential_and_gets_none(desk: Any) -> None:
    keep(desk, "wandb", "metrics", api_key=SECRET)
    job, agent = desk.running(plugin={"wandb": {"credential": "metrics"}})
    agent.finish()
    assert desk.job(job.number).status == "success"
    with pytest.raises(ConflictError):
        agent.api.job_credentials()
    assert desk.api.credential(place_of(desk), "metrics").used_by == []
    desk.api.delete_credential(place_of(desk), "metrics")


def test_shared_credential_serves_every_project_and_names_jobs_of_its_own_only(desk: Any) -> None:
    shared = CredentialPlace.of_organization(desk.api.organization)
    body = m.WandbCredentialCreate.model_validate({"name": "metrics", "api_key": SECRET})
    desk.api.create_credential(shared, body, verify=False)
    job = desk.submit(plugin={"wandb": {"credential": "metrics"}})
    (taken,) = desk.agent(job).api.job_credentials().credentials
    assert taken.name == "metrics"
    (use,) = desk.api.credential(place_of(desk), "metrics").used_by
    assert use.name.startswith(f"{job.number} ")
    (use,) = desk.api.credential(shared, "metrics").used_by
    assert (use.kind, use.name, use.project) == ("job", "", "")


def test_agent_that_is_started_again_has_none_and_says_so(desk: Any) -> None:
    keep(desk, "wandb", "metrics", api_key=SECRET)
    job = desk.submit(plugin={"wandb": {"credential": "metrics"}})
    api, spec = desk.agent(job).api, JobSpec.model_validate(desk.job(job.number).spec)
    told: list[tuple[str, str]] = []

    def take() -> list[m.JobCredential]:
        return take_credentials(api, spec, lambda *words: told.append(words), lambda: False)

    (taken,) = take()
    assert taken.values["api_key"].get_secret_value() == SECRET
    assert take() == []
    assert [kind for kind, _ in told] == ["preparing", "warning"]
    assert SECRET not in str(told)
