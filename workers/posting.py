"""One POST to an address that a stranger chose: only to where it may go, and never for long.

The name is resolved once, every address that it has is judged, and the connection goes to an address that was judged:
a name that points elsewhere a moment later changes nothing. Host, SNI and the certificate's name stay those of the URL.
Redirects are not followed, proxies of the environment not used, and the answer's content is not read.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpcore2

from app.domain.webhooks import may_go_to

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Iterable, Mapping

    from app.domain.webhooks import Address, Network

    Resolve = Callable[[str, int], Iterable[Address]]

_CONNECT_S = 5.0


@dataclass(frozen=True)
class Answer:
    """The status that came back with its ``Retry-After``, or why there is none."""

    status: int | None
    retry_after: str | None = None
    error: str | None = None


class ForbiddenAddressError(Exception):
    """A name leads to where messages may not go; the message is a sentence that says so."""


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host by the system's resolver. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # The scope of a link-local address, after %, is of no use here: it may not be reached anyway.
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    allowed: Collection[Network],
    timeout_s: float,
    certificates: ssl.SSLContext,
    resolved: Resolve = resolve,
) -> Answer:
    """Send a body; return what came back. Takes ``timeout_s`` at most, after the name was resolved."""
    backend = _Guarded(allowed, timeout_s, resolved)
    sent = {**headers, "content-type": "application/json", "user-agent": "zooaudit"}
    with httpcore2.ConnectionPool(ssl_context=certificates, network_backend=backend) as pool:
        try:
            with pool.stream("POST", url, headers=list(sent.items()), content=body) as response:
                found = {name.lower(): value for name, value in response.headers}
                return Answer(response.status, found.get(b"retry-after", b"").decode("latin-1") or None)
        except ForbiddenAddressError as error:
            return Answer(None, error=str(error))
        except httpcore2.TimeoutException:
            return Answer(None, error=f"The receiver did not answer within {timeout_s:g} s.")
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError, ValueError) as error:
            return Answer(None, error=f"The receiver could not be reached: {error or type(error).__name__}."[:500])


class _Guarded(httpcore2.NetworkBackend):
    """Connects to addresses that were judged, and ends every stream at one deadline."""

    def __init__(self, allowed: Collection[Network], timeout_s: float, resolved: Resolve) -> None:
        self._allowed = allowed
        self._timeout_s = timeout_s
        self._resolved = resolved
        self._tcp = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of a host that answers. Raises ForbiddenAddressError."""
        del timeout
        addresses = list(dict.fromkeys(self._resolved(host, port)))
        for address in addresses:
            if not may_go_to(address, self._allowed):
                raise ForbiddenAddressError(
                    f"{host} leads to {address}, which is not an address of the public Internet; allow its network "
                    "with ZOOAUDIT_WEBHOOK_NETWORKS if that is intended."
                )
        ends = time.monotonic() + self._timeout_s
        failed: Exception = OSError(f"{host} has no address")
        for address in addresses:
            try:
                stream = self._tcp.connect_tcp(
                    str(address), port, min(_CONNECT_S, _left(ends)), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
            else:
                return _Bounded(stream, ends)
        raise failed


class _Bounded(httpcore2.NetworkStream):
    """A stream on which everything together ends in time: each single wait would begin the time anew."""

    def __init__(self, stream: httpcore2.NetworkStream, ends: float) -> None:
        self._stream = stream
        self._ends = ends

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read some bytes."""
        del timeout
        return self._stream.read(max_bytes, _left(self._ends))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all bytes, which are few: a message is smaller than the buffer of a socket."""
        del timeout
        self._stream.write(buffer, _left(self._ends))

    def close(self) -> None:
        """Close the stream."""
        with contextlib.suppress(OSError):
            self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """Go on encrypted, with the certificate of the URL's host."""
        del timeout
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, _left(self._ends)), self._ends)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as the base has it
        """Return what the stream below knows."""
        return self._stream.get_extra_info(info)


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout
    return left
