"""Who lives, known within a third of a second, where all members are ours: a sans-IO detector beside memberlist."""
