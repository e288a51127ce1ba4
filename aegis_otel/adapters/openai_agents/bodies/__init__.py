"""What came of a tool's body, where neither an exception nor a returned text says it."""
