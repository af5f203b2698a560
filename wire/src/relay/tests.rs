//! A relay between two ends.
