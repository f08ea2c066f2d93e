"""Decisions about one request: where to, with which key, again or not, and how long to wait. Pure."""
