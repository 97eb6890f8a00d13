"""Transport: from the queue of events to the acks of the daemon."""
