"""BFD (RFC 5880): packets, the state machine of one session, and the engine that holds a node's sessions."""
