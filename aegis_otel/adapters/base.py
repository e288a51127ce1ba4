"""The public import path of `BaseExecutor`, which carries out the actions of a plan."""

from aegis_otel.runtime.plan import BaseExecutor

__all__ = ["BaseExecutor"]
