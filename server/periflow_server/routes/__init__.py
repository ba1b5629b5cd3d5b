"""The HTTP API: one module a noun, which has a ``router``."""

PREFIX = "/api/v1"
