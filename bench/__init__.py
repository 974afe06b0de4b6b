"""Measurements, as ratios within one run: what syncd costs above the PostgreSQL or HTTP server it stands on."""
