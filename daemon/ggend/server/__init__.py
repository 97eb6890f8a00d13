"""Server: the socket, the connections, and the two encodings that peers speak."""
