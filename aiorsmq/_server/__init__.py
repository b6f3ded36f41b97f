"""One server, or a set of them: calls go in, replies and announcements come out."""
