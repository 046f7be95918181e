"""hashicorp/memberlist, wire-compatible and sans-IO: codecs and the engine of one member."""
