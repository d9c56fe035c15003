"""The study: RegionCap's four packages assembled, trained, evaluated and compared."""
