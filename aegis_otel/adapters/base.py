"""The public import path of `BaseExecutor`, which carries out the actions of a plan."""

from aegis_otel.governance.plan import BaseExecutor

__all__ = ["BaseExecutor"]
