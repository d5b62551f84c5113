"""Simulated clouds in real time, on this machine: what every provider's simulator is made of.

`LoopbackCloud` is a `SimCloud` whose machines are real process trees that run their job's real
command. `WireServer` is an HTTP server on 127.0.0.1 that speaks a provider's protocol in front of
it. Nothing here needs pytest: `kwanzaa train ... --simulate` uses it as the tests do.
"""

from kwanzaa_compute.testing.loopback.cloud import Command, LoopbackCloud
from kwanzaa_compute.testing.loopback.liveclock import LiveClock
from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer

__all__ = ["Command", "LiveClock", "LoopbackCloud", "Reply", "Request", "WireServer"]
