"""Answers of humans in the journal: which of them count."""
