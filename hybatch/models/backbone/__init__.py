"""The transformer under the encoder: read from a folder, or made fresh from a configuration."""
