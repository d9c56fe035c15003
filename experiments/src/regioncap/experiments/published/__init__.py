"""The paper's Tables 3 to 6 as printed, and beside them, apart, what was measured here: `regioncap tables`."""
