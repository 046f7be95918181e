"""What lbcore costs, measured: `python -m benchmarks [NAME ...]` prints the table."""
