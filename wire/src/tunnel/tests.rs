//! Tunnels over a pipe.
