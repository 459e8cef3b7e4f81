"""Where and when tasks run: reads the state, decides, changes nothing by itself."""
