"""Which hosts there are: words of a command line and lines of a hostfile, read; no I/O."""
