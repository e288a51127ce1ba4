"""Verify that an audit is as it was written."""
