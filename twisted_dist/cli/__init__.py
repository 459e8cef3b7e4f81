"""The daemons' command lines, as console scripts and as twistd plugins."""
