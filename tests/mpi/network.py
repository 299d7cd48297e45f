"""Hosts on one machine: network namespaces joined by a bridge. Needs root.

The bridge is in a namespace of its own. In the machine's it would be an interface that
comes and goes, and Open MPI takes each one that it sees: a rank of another test that
begins meanwhile binds a socket to its address, and fails when it has gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

AGENT = """\
#!/bin/bash
# Stands in for ssh: [options] ADDRESS COMMAND... in the namespace of that address.
while [[ $1 == -* ]]; do shift; done
address=$1; shift
case ${address#*@} in
%(cases)s
*) echo "no host $address" >&2; exit 255 ;;
esac
exec ip netns exec "$name" unshare -u bash -c "hostname $name; $*"
"""


@dataclass(frozen=True)
class Hosts:
    """Hosts that reach each other by TCP, and nobody else.

    Attributes:
        names: Their names, which are those of their namespaces.
        addresses: Their addresses.
        hub: The namespace that the bridge is in.
        bridge: The network interface of the hub on their network.
        agent: A program that is called like ssh.
    """

    names: list[str]
    addresses: list[str]
    hub: str
    bridge: str
    agent: Path

    def on(self, host: int, command: list[str]) -> list[str]:
        """Return the words that run a command on a host."""
        name = self.names[host]
        inner = f'hostname {name}; exec "$@"'
        enter = ["ip", "netns", "exec", name, "unshare", "-u"]
        return [*enter, "bash", "-c", inner, "bash", *command]

    def beside(self, command: list[str]) -> list[str]:
        """Return the words that run a command on no host, but on their network."""
        return ["ip", "netns", "exec", self.hub, *command]


def why_not() -> str | None:
    """Return why this machine cannot have such hosts, or None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "needs the ip command (iproute2)"
    name = f"mt{uuid.uuid4().hex[:8]}"
    tried = subprocess.run(
        ["ip", "netns", "add", name], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        return f"this machine gives no network namespaces: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    return None


@contextmanager
def hosts(count: int, folder: Path) -> Iterator[Hosts]:
    """Make hosts, and take them away again at the end, whatever happens."""
    token = uuid.uuid4().hex[:6]
    bridge = f"mtbr{token}"
    net = f"10.{100 + int(token[:2], 16) % 100}.{int(token[2:4], 16)}"
    hub = f"mt{token}hub"
    names = [f"mt{token}h{number}" for number in range(1, count + 1)]
    addresses = [f"{net}.{number}" for number in range(1, count + 1)]
    with ExitStack() as undo:
        _ip("netns", "add", hub)
        undo.callback(_ip, "netns", "del", hub)
        _ip("-n", hub, "link", "add", bridge, "type", "bridge")
        _ip("-n", hub, "addr", "add", f"{net}.254/24", "dev", bridge)
        _ip("-n", hub, "link", "set", bridge, "up")
        _ip("-n", hub, "link", "set", "lo", "up")
        for number, (name, address) in enumerate(zip(names, addresses, strict=True)):
            _ip("netns", "add", name)
            undo.callback(_ip, "netns", "del", name)
            inside, outside = f"eth{token}", f"mtv{token}{number}"
            pair = ["type", "veth", "peer", "name", inside, "netns", name]
            _ip("-n", hub, "link", "add", outside, *pair)
            _ip("-n", hub, "link", "set", outside, "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", inside)
            _ip("-n", name, "link", "set", inside, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        agent = folder / "agent"
        cases = [f"{a}) name={n} ;;" for a, n in zip(addresses, names, strict=True)]
        agent.write_text(AGENT % {"cases": "\n".join(cases)})
        agent.chmod(0o755)
        yield Hosts(names, addresses, hub, bridge, agent)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
