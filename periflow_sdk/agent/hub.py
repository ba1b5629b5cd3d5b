"""Datasets of the Hugging Face hub, by `huggingface:NAME` in a job file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from periflow_sdk.data.cache import Cache
from periflow_sdk.errors import MissingExtraError, NotFoundError, PeriFlowError

_SECONDS = 20.0


def fetch_from_hub(name: str, cache: Cache, token: str | None) -> Path:
    """The folder of a dataset as it is on the hub now.

    Args:
        name: ``imdb``, or ``organization/name``.
        cache: Where it is kept.
        token: HF_TOKEN of the job, for a dataset that is not public.

    Raises:
        MissingExtraError: huggingface_hub is not installed where the agent runs.
        NotFoundError: the hub has no such dataset for this token.
        PeriFlowError: the hub cannot be reached (``hub_unreachable``).
    """
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError:
        raise MissingExtraError(
            f"The dataset huggingface:{name} needs huggingface_hub, which is not installed here.",
            hint="pip install 'periflow_sdk[huggingface]' for the agent, or upload the files with "
            "`pf dataset upload`",
        ) from None
    try:
        found = HfApi(token=token).dataset_info(name, files_metadata=True, timeout=_SECONDS)
        size = sum(each.size or 0 for each in found.siblings or ())

        def fill(target: Path) -> None:
            partial = target.with_name(".data.part")
            snapshot_download(
                name, repo_type="dataset", revision=found.sha, local_dir=partial, token=token
            )
            shutil.rmtree(partial / ".cache", ignore_errors=True)
            partial.rename(target)

        return cache.obtain(f"{found.sha}-hub", "data", size, fill, f"huggingface:{name}")
    except PeriFlowError:
        raise
    except Exception as error:
        raise _explained(name, error) from error


def _explained(name: str, error: Any) -> PeriFlowError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403, 404):
        return NotFoundError(
            f"The Hugging Face hub has no dataset {name} that this job may read.",
            code="hub_dataset_not_found",
            hint="Look at its name, and set HF_TOKEN under `env` if it is not public.",
        )
    return PeriFlowError(
        f"The Hugging Face hub cannot be reached from this node for the dataset {name}: "
        f"{str(error).splitlines()[0][:200] if str(error) else type(error).__name__}.",
        code="hub_unreachable",
        hint="Check the node's network (HTTPS_PROXY), or upload the files with "
        "`pf dataset upload` and name that dataset.",
    )
