"""A cluster of pretend machines on a virtual clock, run by the daemons' own loop, brains and engines."""
