"""The way of one request: from a client's call to an upstream's answer and back. Opens no socket."""
