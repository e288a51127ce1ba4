"""The assistant of assistant.py under a policy: the same program, and one line."""

from pathlib import Path

from assistant import main

import aegis_otel

aegis_otel.instrument(policy=Path(__file__).with_name("policy.yaml"))
main()
