"""Read policy files: YAML and data in, a validated `PolicyDocument` or every problem out."""
