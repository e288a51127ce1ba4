"""Where actions come from and where they go: the agent SDK on one side, executors on the other."""
