"""Gates: where a tool call of the SDK meets the governor."""
