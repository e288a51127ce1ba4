"""What is governed of everything that an agent can reach."""
