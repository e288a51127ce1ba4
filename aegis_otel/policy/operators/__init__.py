"""The conditions on a parameter: a row of `table.py` for each, a module for each kind of comparison."""
