from __future__ import annotations

from tests.adapters.openai_agents.conftest import installed

__all__ = ["installed"]
