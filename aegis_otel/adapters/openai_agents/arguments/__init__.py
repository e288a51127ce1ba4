"""The arguments of a function tool as its body gets them: validated by the SDK, and readable by a policy."""
