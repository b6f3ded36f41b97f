"""One server as the client sees it: calls go in, replies and announcements come out."""
