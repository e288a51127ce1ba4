"""The HTTP session of our exporters: says why a request failed, which the exporter may leave out.

The exporter (1.45) says the cause only before an attempt that it repeats. Where the time left is shorter than
its next pause it gives up at once, with "due to timeout, max retries or shutdown" and nothing else.
"""

from __future__ import annotations

import logging
from typing import Any

import requests

from aegis_otel.telemetry.exporters import CAUSE_LOGGER

_log = logging.getLogger(CAUSE_LOGGER)


class CauseSession(requests.Session):
    """Log the cause of every request that has no answer."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        try:
            return super().send(request, **kwargs)
        except requests.RequestException as error:
            _log.warning("%s", error)
            raise
