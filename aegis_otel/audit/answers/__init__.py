"""Answers of humans in the journal: which calls wait, and which answers count."""
