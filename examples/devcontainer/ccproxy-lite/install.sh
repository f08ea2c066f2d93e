#!/bin/sh
# Installs ccproxy-lite.pyz, which lies beside this script, for all users. Needs no network. Run as root by dev containers;
# PREFIX may name another place than /usr/local.
set -eu
prefix=${PREFIX:-/usr/local}
bundle=$(dirname "$0")/ccproxy-lite.pyz
if [ ! -f "$bundle" ]; then
  echo "ccproxy-lite.pyz is missing: write it with 'ccproxy-lite bundle -o $bundle'" >&2
  exit 1
fi

python=${PYTHON:-}
for name in python3.14 python3.13 python3.12 python3.11 python3.10 python3; do
  [ -z "$python" ] || break
  found=$(command -v "$name" || true)
  if [ -n "$found" ] && "$found" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null; then
    python=$found
  fi
done
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
  echo "ccproxy-lite needs Python 3.10 or newer: add the feature ghcr.io/devcontainers/features/python" >&2
  exit 1
fi

mkdir -p "$prefix/lib" "$prefix/bin"
cp "$bundle" "$prefix/lib/ccproxy-lite.pyz"
cat > "$prefix/bin/ccproxy-lite" << EOF
#!/bin/sh
exec "$python" "$prefix/lib/ccproxy-lite.pyz" "\$@"
EOF
cat > "$prefix/bin/ccproxy-lite-start" << EOF
#!/bin/sh
# Starts the proxy in the background, unless it serves already; the arguments are those of 'serve', the log is in
# ~/.local/state/ccproxy-lite/serve.log.
if "$prefix/bin/ccproxy-lite" health "\$@" > /dev/null 2>&1; then
  exit 0
fi
log="\${XDG_STATE_HOME:-\$HOME/.local/state}/ccproxy-lite/serve.log"
mkdir -p "\$(dirname "\$log")"
nohup "$prefix/bin/ccproxy-lite" serve "\$@" > "\$log" 2>&1 < /dev/null &
for _ in 1 2 3 4 5 6 7 8 9 10; do
  sleep 0.3
  if "$prefix/bin/ccproxy-lite" health "\$@"; then
    exit 0
  fi
done 2> /dev/null
cat "\$log" >&2
exit 1
EOF
chmod 755 "$prefix/lib/ccproxy-lite.pyz" "$prefix/bin/ccproxy-lite" "$prefix/bin/ccproxy-lite-start"
"$prefix/bin/ccproxy-lite" --version
