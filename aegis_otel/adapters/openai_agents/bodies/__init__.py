"""Find out how a tool's body ended, where neither an exception nor a returned text says it."""
