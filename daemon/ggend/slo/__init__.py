"""SLO: what is promised of committed rows, and how it is judged, explained and tried out."""
