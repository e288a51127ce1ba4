from __future__ import annotations

from tests.integration.conftest import installed

__all__ = ["installed"]
