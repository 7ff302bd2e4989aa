"""Rules of what the host of a peer, or of our own, may be."""

from __future__ import annotations

import ipaddress
import re

_LABEL = re.compile(r"[\w-]{1,63}")
_LONGEST = 253
_WITH_PORT = re.compile(r"(\[.*\]|[^:]*):\d*")


def fault_of_host(host: str) -> str:
    """Return what is wrong with a host name or IP address; "" when it may be one."""
    if _is_address(host):
        return ""
    faults = {
        "empty: give a host name or an IP address": not host.strip(),
        "a host name or an IP address alone, without what stands before or behind it": re.search(
            "[/@]", host
        ),
        "an IPv6 address stands without brackets here": re.fullmatch(r"\[.*\]", host),
        "the port does not belong to the host: it has a key of its own": _WITH_PORT.fullmatch(host),
        "no IPv6 address": ":" in host,
        "no IP address: it has four numbers from 0 to 255, as 10.1.2.3": re.fullmatch(r"[\d.]+", host),
        "no host name: it has letters, digits, hyphens and dots": not _is_name(host),
    }
    return next((fault for fault, found in faults.items() if found), "")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    return len(host) <= _LONGEST and all(_LABEL.fullmatch(label) for label in labels)
