"""A small local proxy between AI clients and AI services that speak different wire formats.

The rooms, from the top down. Each imports only what stands below it; ``tests/test_rooms.py`` says what, exactly.

    cli         the program: arguments, exit codes, one file per command
    server      what clients talk to: endpoints, who may ask, life cycle, reload, logs, status, metrics, dashboard
    relay       the way of one request: the call, attempts, the services, streams, the reply
    routing     decisions, pure: which target, which key, again or not, how long to wait
    config      a file and the environment become frozen values; what secret strings mean
    providers   where a format is spoken, pure: URL, path, credential, framing, quirks; one file for each kind of host
    formats     what the bytes mean, pure: one folder for each wire format, and what they share in ``neutral``
    net         the only room that opens sockets: listener, connections, TLS, tunnels, framing

A request passes ``net.connection``, ``server.app``, ``relay.exchange``, ``routing.failover``, ``relay.attempt``, a
format, a provider and ``net.upstream``; its answer comes back through ``relay.delivery`` and ``relay.reply``.
"""

__version__ = "0.1.0"
