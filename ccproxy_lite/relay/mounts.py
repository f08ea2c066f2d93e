"""Mounts: a client's own service behind the proxy, passed through as if the proxy were not there.

The client's credential gives way to the mount's key; all else stays as it is, in both directions, but for the headers
of this hop. Nothing is ever judged or sent again: an error is the service's own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from ccproxy_lite.config.model import Mount
from ccproxy_lite.config.secrets import is_renewable
from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.net.bodies import IncomingBody
from ccproxy_lite.net.heads import OutHeaders
from ccproxy_lite.providers.credentials import is_sendable
from ccproxy_lite.providers.provider import Ask
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.headers import MOUNTED, for_upstream, merged
from ccproxy_lite.relay.passage import Passage, Upload, note, send
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.streams import failed_of


async def through_mount(relay: Relay, call: Call, mount: Mount) -> None:
    """Respond to a call with what the service behind a mount answers. Raises ClientError."""
    if not call.client.is_local and mount.loopback_only:
        raise ClientError(403, f'mount "{mount.path}" is for clients on this machine only')
    if call.head.method == "OPTIONS" and call.head.get("access-control-request-method"):
        raise ClientError(403, f'mount "{mount.path}" is not for browsers')
    call.record.route = f"mount:{mount.path}"
    service, secret = mount.service, await _first_secret(relay, mount)
    headers = tuple(for_upstream(call.head, MOUNTED))
    ask = Ask(query=call.head.query, headers=headers, method=call.head.method, raw_path=call.raw_path, auth=mount.auth)
    outbound = service.provider.raw(service, call.form, ask, secret)._replace(raw=True)
    named: OutHeaders = [("x-ccproxy-upstream", mount.path)]
    passage = Passage(
        call,
        relay.clock,
        False,
        lambda answer: merged(call.headers_for_client(answer, service, MOUNTED), named),
    )
    upload = Upload(cast(IncomingBody, call.incoming))
    call.client.cancel_on_eof()
    await upload.take_small()
    try:
        await send(relay, call, service, outbound, (upload, passage))
    except UpstreamError as error:
        passage.failed = failed_of(error)
    finally:
        note(call, passage)
    if passage.answer is not None and passage.answer.status == 401:
        await _look_for_new_secret(relay, mount, secret)
    if passage.began_at is None:
        failed = passage.failed or Failed(502, "server", "no response")
        raise ClientError(failed.status, f"mount {mount.path}: {call.redact(failed.message)}", kind=failed.kind)


async def _look_for_new_secret(relay: Relay, mount: Mount, rejected: str) -> None:
    """For the next request: the file or helper may have a new key by now."""
    for key in mount.service.keys:
        if is_renewable(key.reference) and relay.vault.peek(key.reference) == rejected:
            with suppress(UpstreamError):
                await relay.vault.value(key.reference, relay.clock.now(), rejected=rejected)


async def _first_secret(relay: Relay, mount: Mount) -> str:
    """The first of a mount's keys that is set; empty for a mount without keys. Raises ClientError (503)."""
    for key in mount.service.keys:
        with suppress(UpstreamError):
            secret = await relay.vault.value(key.reference, relay.clock.now())
            if secret and is_sendable(secret):
                return secret
    if mount.service.keys:
        labels = ", ".join(key.label for key in mount.service.keys)
        message = f"mount {mount.path} is not configured: none of its keys is set ({labels})"
        raise ClientError(503, message, kind="server")
    return ""
