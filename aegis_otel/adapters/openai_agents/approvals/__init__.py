"""Approvals by the SDK: what it asks and is told before a call runs, when a run is resumed, in a session."""
