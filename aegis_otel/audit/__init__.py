"""The audit: what was decided, by whom, and what came of it, on disk before it happens."""
