"""Compile policies and evaluate them: a `PolicyDocument` and an action in, a `Verdict` out."""
