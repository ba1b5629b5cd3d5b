"""The name that scripts of 2022 import: ``from periflow_sdk import periflow as pf``."""

from periflow_sdk import *  # noqa: F403
