"""Who may do what: credentials, what members and schedulers hold of them, and their files."""
