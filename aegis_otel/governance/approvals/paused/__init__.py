"""Calls that are paused for a human and resumed later, in this process or another."""
