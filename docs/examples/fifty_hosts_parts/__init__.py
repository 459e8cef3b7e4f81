"""What ``fifty_hosts.py`` is made of."""
