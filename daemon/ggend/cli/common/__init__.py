"""Common: what several commands share. Options, filters, and how they reach the daemon."""
