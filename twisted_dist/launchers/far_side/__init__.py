"""What runs on a host: commands for its shell, a look at it first, and the package shipped."""
