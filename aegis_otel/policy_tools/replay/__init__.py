"""Decide the calls of an audit anew under another policy."""
