"""Capture every tool call: the classes and functions of the SDK that are replaced, and by what."""
