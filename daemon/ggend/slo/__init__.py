"""SLO: what is promised of committed rows, and the hooks that write down what breaks it."""
