"""Touch: sockets, files, processes and the kernel behind small contracts. They decide nothing."""
