"""Reports and inspections as one HTML file each."""
