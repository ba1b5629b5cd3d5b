"""The name that scripts of 2022 know ``periflow_sdk.data`` by."""
