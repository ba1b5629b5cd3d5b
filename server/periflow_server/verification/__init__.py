"""Whether the services that credentials are for take them: one harmless call to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from periflow_sdk.api import models as m

if TYPE_CHECKING:
    from periflow_server.settings import Settings


def check(body: m.AnyCredentialCreate, settings: Settings, *, ask: bool) -> bool:
    """Whether the service takes the credential; False where nobody was asked.

    Args:
        ask: False trusts it unseen. Registries of images are never asked.

    Raises:
        InvalidRequestError: the service refuses it (``credential_refused``), or did not answer
            (``verification_unavailable``); or it is a webhook elsewhere than at Slack
            (``invalid_webhook_url``).
    """
    if isinstance(body, m.SlackCredentialCreate):
        from periflow_server.verification import slack

        slack.require_webhook(body, settings.slack_hooks_url)
    return ask and _is_taken(body, settings)


def _is_taken(body: m.AnyCredentialCreate, settings: Settings) -> bool:
    match body:
        case m.S3CredentialCreate():
            from periflow_server.verification import s3

            s3.check(body, settings.s3_url)
        case m.AzureBlobCredentialCreate():
            from periflow_server.verification import azure

            azure.check(body, settings.azure_blob_url)
        case m.GcsCredentialCreate():
            from periflow_server.verification import gcs

            gcs.check(body, settings.gcs_url, settings.google_token_url)
        case m.WandbCredentialCreate():
            from periflow_server.verification import wandb

            wandb.check(body, settings.wandb_url)
        case m.SlackCredentialCreate():
            from periflow_server.verification import slack

            slack.check(body, settings.slack_url)
        case m.DockerCredentialCreate():
            return False
    return True
