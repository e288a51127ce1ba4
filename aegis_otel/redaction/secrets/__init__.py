"""Find secrets in text: by their names, by their shapes, and by the syntax that they stand in."""
