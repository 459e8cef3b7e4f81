"""What travels between processes: docs/protocol.md, as code."""
