"""What is to be known of local programs before one is used. Pure; ``claude_cli`` knows the rest."""

from __future__ import annotations

from ccproxy_lite.providers.provider import Defaults

NAME = "claude-cli"
COMMAND = ("claude",)
"""How it is run, unless the configuration says otherwise."""
PARALLEL = 4
"""How many run at once, unless the configuration says otherwise."""
DEFAULTS = Defaults("", (), "")
