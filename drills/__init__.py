"""Fault drills: whatever goes wrong ends in a clear error with a remedy, or in the same numbers. `make drill`."""
