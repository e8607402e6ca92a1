"""Search in collections too large to hold: passages read from files, encoded into shards, searched and counted."""
