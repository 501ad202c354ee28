"""How many calls a key, or an address, may make in a time: the library `limits`, in memory or in Redis."""

import ipaddress
import logging
import math
import time

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool

from app.problems import ProblemError
from app.settings import Settings

_LOGGER = logging.getLogger("normgauge")
_QUIET_S = 60.0
_TIMEOUT_S = 1.0
_IPV6_SITE = 64
"""Bits of an IPv6 address that name a site; the rest its owner chooses at will."""


class RateLimiter:
    """Counts calls over a sliding window.

    Where Redis does not answer, calls go through and the log says so, once a minute: a service without its counter is
    worth more than none.
    """

    def __init__(self, settings: Settings) -> None:
        self._rate: RateLimitItem | None = None if settings.rate_limit == "off" else parse(settings.rate_limit)
        url = settings.rate_storage_url
        self._pool: ConnectionPool | None = None
        if url.startswith("memory:"):
            storage: Storage = MemoryStorage()
        else:
            timeouts = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
            self._pool = ConnectionPool.from_url(url.replace("redis+unix:", "unix:"), **timeouts)
            storage = RedisStorage(
                f"async+{url}",
                wrap_exceptions=True,
                implementation="redispy",
                connection_pool=self._pool,  # type: ignore[arg-type]  # its annotation leaves out what it documents
            )
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._quiet_until = -math.inf

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def check(self, who: str) -> None:
        """Count a call.

        Raises:
            ProblemError: it is one too many ("rate-limited").
        """
        if self._rate is None:
            return
        try:
            if await self._limiter.hit(self._rate, who):
                return
            stats = await self._limiter.get_window_stats(self._rate, who)
        except StorageError as error:
            if time.monotonic() > self._quiet_until:
                self._quiet_until = time.monotonic() + _QUIET_S
                _LOGGER.warning("the counter of calls does not answer; calls go through: %s", error)
            return
        wait_s = max(1, math.ceil(stats.reset_time - time.time()))
        raise ProblemError(
            "rate-limited",
            f"expected at most {self._rate}; got one more; go on in {wait_s} s, or raise NORMGAUGE_RATE_LIMIT",
            headers={"Retry-After": str(wait_s)},
        )


def address_of(host: str | None) -> str:
    """Return what calls from an address are counted under; of IPv6, the site.

    >>> address_of("2001:db8::1:2"), address_of("192.0.2.7"), address_of(None)
    ('address 2001:db8::/64', 'address 192.0.2.7', 'address unknown')
    """
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return f"address {host or 'unknown'}"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return f"address {address.ipv4_mapped}"
        return f"address {ipaddress.ip_network((address, _IPV6_SITE), strict=False)}"
    return f"address {address}"
