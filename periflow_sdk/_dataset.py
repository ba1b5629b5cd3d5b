"""`pf.dataset`: nothing of it is loaded before it is called."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from periflow_sdk.data.dataset import Dataset


def dataset(name: str) -> Dataset:
    """Open a dataset by its name.

    In a job it is one of those that the job's file names, in the version that it had when the job
    was submitted. Elsewhere the login of `pf` is used, and its current project.

    Args:
        name: As `pf dataset list` shows it.

    Returns:
        The dataset. Nothing is downloaded before it is read; then it is kept on this machine for
        all its processes.

    Raises:
        UsageError: There is neither a job nor a login.
        NotFoundError: There is no such dataset, or the job's file does not name it.

    Example:
        >>> import periflow_sdk as pf
        >>> data = pf.dataset("cifar100")  # doctest: +SKIP
        >>> folder = data.path  # doctest: +SKIP
    """
    from periflow_sdk.data.access import open_dataset

    return open_dataset(name)
