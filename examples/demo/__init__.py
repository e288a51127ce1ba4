"""The programs of `aegis demo`: four governed agents, a scripted model, and tools that do nothing.

The wheel has this folder as `aegis_otel/_demo` (pyproject.toml), and `aegis_otel/cli/demo.py` loads it.
"""
