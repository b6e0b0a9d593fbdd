"""Addresses of this machine."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Tell whether a host's name or address means this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
