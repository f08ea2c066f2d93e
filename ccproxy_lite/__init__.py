"""A small local proxy between AI clients and AI services that speak different wire formats."""

__version__ = "0.1.0"
