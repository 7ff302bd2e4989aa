"""Network namespaces that stand for hosts: each has its own address on a common bridge. Needs root and iproute2."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

NETWORK = "10.77.31"


def run(*words: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(words, check=True, capture_output=True)


class Hosts:
    """Hosts on one bridge, and this machine at its address 254."""

    def __init__(self, *names: str) -> None:
        self.tag = f"dn{os.getpid() % 10000}"
        self.bridge = f"{self.tag}br"
        self.names = names
        self.made: list[str] = []

    def __enter__(self) -> Hosts:
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "address", "add", f"{NETWORK}.254/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        for number, name in enumerate(self.names, start=1):
            space, link = self.space(name), self.link(name)
            run("ip", "netns", "add", space)
            self.made.append(space)
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", link, "master", self.bridge, "up")
            run("ip", "-n", space, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for space in self.made:
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", self.bridge], check=False, capture_output=True)

    def space(self, name: str) -> str:
        """Name of a host's namespace."""
        return f"{self.tag}{name}"

    def link(self, name: str) -> str:
        """Name of a host's cable at the bridge."""
        return f"{self.tag}{name}v"[:15]

    def address(self, name: str) -> str:
        """A host's address."""
        return f"{NETWORK}.{self.names.index(name) + 1}"

    def plug(self, name: str, *, into: bool) -> None:
        """Plug a host's cable in, or pull it out."""
        run("ip", "link", "set", self.link(name), "up" if into else "down")

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a process on a host."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.space(name), *command],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def processes(self, name: str) -> set[int]:
        """IDs of the processes of a host."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.space(name)], check=True, capture_output=True, text=True
        )
        return {int(word) for word in found.stdout.split()}
