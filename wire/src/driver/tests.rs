//! Two ends over a pipe.
