"""What the scripts share, a module a concern."""

__version__ = "1.0.0"
