//! The judge of certificates, held against vectors, against OpenSSH, and against chance.

mod cases;
mod draft;
mod hosts;
mod keygen;
mod mutation;
mod sshd;
mod vectors;
