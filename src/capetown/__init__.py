"""Cape Town's service requests on H3 hexagons, and swimming pools in aerial tiles."""
