"""Deciding, asking, running and recording: the governor and what people hold of it."""
