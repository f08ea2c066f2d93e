"""``python -m ccproxy_lite``."""

from ccproxy_lite.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
