"""Hosts entered by the system's ``ssh``, for what conch cannot do.

Those are sshds with ciphers that conch lacks, certificates, keys in devices, GSSAPI and
ProxyCommand. One ``ssh`` a host makes the connection and keeps it (ControlMaster); another one
for each command shares it by a socket in a private directory.
"""

from twisted_dist.launchers.ssh.openssh.client import OpenSSHClient

__all__ = ["OpenSSHClient"]
