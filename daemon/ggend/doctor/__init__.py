"""Doctor: what is wrong with an installation. Changes nothing."""
