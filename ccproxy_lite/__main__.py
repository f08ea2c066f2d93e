"""``python -m ccproxy_lite``."""

from ccproxy_lite.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
