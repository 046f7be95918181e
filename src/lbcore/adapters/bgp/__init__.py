"""BGP-4 without sockets: messages to bytes and back, and the engine of one session."""
