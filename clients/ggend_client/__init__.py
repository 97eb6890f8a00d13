"""The light client of ggend."""
