"""The version of the distribution, and of the instrumentation scope in every signal."""

__version__ = "0.1.0"
