"""Common: code that several commands share. Options, filters, and requests to the daemon."""
